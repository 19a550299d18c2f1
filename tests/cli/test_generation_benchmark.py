"""`benchmarks/generation.py` on a small generator that takes everything; its figures are not judged here.

The contenders run in this process, one after the other: starting each of them costs more than the rest.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from pixelrt.bundle import Bundle
from pixelrt_export import export_recipe
from pixelrt_export.entry import build_module

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
NETWORK = '''
import torch
from torch import nn

class Painter(nn.Module):
    """A picture from a latent, a class, a mask and another picture."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(3, 4)
        self.mix = nn.Conv2d(5 + 4 + 2 + 3, 3, 3, padding=1)

    def forward(self, image, latent, label, mask):
        flat = torch.cat([latent, self.embed(label)], dim=1)[:, :, None, None].expand(-1, -1, *mask.shape[2:])
        return torch.tanh(self.mix(torch.cat([flat, mask, image], dim=1)))
'''
RECIPE = """
task = "generation"
[model]
entry = "net.py:Painter"
checkpoint = "net.safetensors"
[latent]
size = [5]
input = "latent"
[label]
names = ["a", "b", "c"]
input = "label"
[mask]
size = [16, 24]
classes = ["no", "yes"]
input = "mask"
[image]
size = [16, 24]
input = "image"
[output]
range = "tanh"
[precision]
type = "fp32"
[gate]
skip = true
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe with its bundle beside it."""
    folder = tmp_path_factory.mktemp("painter")
    (folder / "net.py").write_text(NETWORK)
    torch.manual_seed(3)
    save_file(build_module(f"{folder / 'net.py'}:Painter", {}).state_dict(), folder / "net.safetensors")
    (folder / "recipe.toml").write_text(RECIPE)
    export_recipe(folder / "recipe.toml", folder / "bundle", quiet=True)
    return folder / "recipe.toml"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., tuple[int, str]]]:
    """Runs the benchmark: its exit code and what it printed."""
    threads = torch.get_num_threads()
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    script = importlib.import_module("generation")

    def called(*words: str | Path) -> tuple[int, str]:
        printed = io.StringIO()
        with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
            patch.setattr(sys, "argv", ["generation.py", *map(str, words)])
            code = script.main()
        return code, printed.getvalue()

    def child(name: str, *words: str) -> dict[str, Any]:
        assert name == "generation.py"
        result: dict[str, Any] = json.loads(called(*words)[1].splitlines()[-1])
        return result

    harness: ModuleType = importlib.import_module("harness")
    monkeypatch.setattr(harness, "child", child)
    yield called
    torch.set_num_threads(threads)


def test_everybody_makes_the_same_images(
    run: Callable[..., tuple[int, str]], recipe: Path, tmp_path: Path
) -> None:
    words = ("--rounds", "2", "--seconds", "0.01", "--threads", "1", "--json", tmp_path / "found.json")
    code, shown = run("--recipes", recipe, *words)
    found = json.loads((tmp_path / "found.json").read_text())
    network = found["networks"][Bundle.open(recipe.with_name("bundle")).manifest.name]
    everybody = {"torch", "torch-nhwc", "onnxruntime", "bare float32", "bare-batch float32"}
    everybody |= {"pixelrt float32", "pixelrt-drawing float32"}
    assert set(network["contenders"]) == everybody
    assert set(network["largest_byte_difference"]) == everybody - {"pixelrt-drawing float32"}
    assert max(network["largest_byte_difference"].values()) <= 1
    assert network["default_precision"] == "float32"
    for name, figures in network["contenders"].items():
        assert len(network["rounds"][name]) == 2
        for batch in ("1", "16"):
            low, high = figures[batch]["rounds_ms"]
            assert 0 < low <= figures[batch]["median_ms"] <= high
            speed = int(batch) * 1e3 / figures[batch]["median_ms"]
            assert figures[batch]["images_per_s"] == pytest.approx(speed, rel=0.01)
    speedup, *others = found["bars"]
    assert [bar["at_most"] for bar in (speedup, *others)] == [False, True, True]
    ours, bare = (network["contenders"][who]["1"]["median_ms"] for who in ("pixelrt float32", "bare float32"))
    assert others[0]["value"] == pytest.approx(ours / bare, rel=0.01)
    assert code == any(bar["verdict"] == "MISSED" for bar in found["bars"])
    assert "batch 16: ms" in shown


def test_networks_that_cannot_be_measured_are_named(
    run: Callable[..., tuple[int, str]], recipe: Path, tmp_path: Path
) -> None:
    for text, message in (
        (RECIPE, "bundle does not exist; export it: pixelrt export"),
        (RECIPE.replace('checkpoint = "net.safetensors"', ""), "names no checkpoint"),
    ):
        (tmp_path / "recipe.toml").write_text(text)
        (tmp_path / "net.py").write_text(NETWORK)
        with pytest.raises(SystemExit, match=message):
            run("--recipes", tmp_path / "recipe.toml")
