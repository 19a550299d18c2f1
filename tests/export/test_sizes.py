"""Exports of several input sizes: each passes its own gate, and all or nothing is written."""

from __future__ import annotations

import json
import shutil
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

import pixelrt
import pixelrt_export
from pixelrt.bundle import Bundle
from pixelrt.cli import main
from pixelrt.errors import ExportError, GateFailed, InputError, RecipeError
from pixelrt_export.recipe import read_recipe

SIZE, SMALLER = (64, 96), ((48, 64), (32, 48))
CLASSES = ["dark", "red", "green", "blue"]
UNTRAINED = 0.99

NETWORK = '''
import torch
from torch import nn
from torch.nn.functional import avg_pool2d, interpolate


class Small(nn.Module):
    """The strongest colour, in the mean of some pixels around; halves its input twice, and joins the halves.

    Args:
        blurred_at: Height at which colours get an offset beside which float16 cannot hold them; the sum of
            the weights is zero, so it changes nothing in float32.
    """

    def __init__(self, blurred_at=0):
        super().__init__()
        self.blurred_at = blurred_at
        self.mix = nn.Conv2d(6, 4, 1)
        weights = torch.zeros(4, 6)
        weights[1:] = 6 * (torch.eye(3) - 1 / 3).repeat(1, 2)
        with torch.no_grad():
            self.mix.weight.copy_(weights[..., None, None])
            self.mix.bias.copy_(torch.tensor([1.0, 0, 0, 0]))

    def forward(self, image):
        half = avg_pool2d(image, 2)
        deep = interpolate(avg_pool2d(half, 2), scale_factor=2)
        joined = torch.cat([half, deep], 1)
        if image.shape[2] == self.blurred_at:
            joined = joined + 4000
        return interpolate(self.mix(joined), scale_factor=2, mode="bilinear")
'''


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The class, from a module that a recipe can name, too."""
    folder = tmp_path_factory.mktemp("network")
    (folder / "small_network.py").write_text(NETWORK)
    sys.path.insert(0, str(folder))
    import small_network

    yield small_network.Small
    sys.path.remove(str(folder))
    del sys.modules["small_network"]


@pytest.fixture(autouse=True)
def others_warnings() -> Iterator[None]:
    """PyTorch's exporter warns about itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", UserWarning)
        yield


def scenes(count: int = 3) -> list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Frames of fields of colours, and the classes in them."""
    rng, colors = np.random.default_rng(0), np.eye(4, 3, -1, dtype=np.uint8) * 220
    made = []
    for _ in range(count):
        classes = cv2.resize(rng.integers(0, 4, (6, 9), np.uint8), (108, 72), interpolation=cv2.INTER_NEAREST)
        noise = rng.integers(0, 30, (*classes.shape, 3), np.uint8)
        made.append((colors[classes] + noise, classes))
    return made


def write_scenes(folder: Path) -> Path:
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True)
    for index, (frame, classes) in enumerate(scenes()):
        assert cv2.imwrite(str(folder / "images" / f"{index}.png"), frame[..., ::-1])
        assert cv2.imwrite(str(folder / "labels" / f"{index}.png"), classes)
    return folder


def export(model: nn.Module, out: Path, **options: Any) -> Bundle:
    defaults: dict[str, Any] = {
        "size": SIZE,
        "smaller": SMALLER,
        "classes": CLASSES,
        "images": [frame for frame, _ in scenes()],
        "agreement": UNTRAINED,
        "quiet": True,
    }
    return pixelrt_export.export(model, out, **{**defaults, **options})


@pytest.fixture(scope="module")
def bundle(small: Any, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("sizes")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return export(small(), folder / "scenes", images=write_scenes(folder / "val"))


def test_every_size_does_what_the_network_does_at_that_size(bundle: Bundle, small: Any) -> None:
    frame, _ = scenes(1)[0]
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with pixelrt.load(bundle, task="segmentation", device="cpu", precision="float32") as segmenter:
        segmenters = segmenter.at_sizes()
        assert [each.network_size for each in segmenters] == [SIZE, *SMALLER]
        for each in segmenters:
            height, width = each.network_size
            resized = cv2.resize(frame, (width, height), interpolation=cv2.INTER_LINEAR)
            image = (torch.from_numpy(resized).permute(2, 0, 1)[None] / 255 - mean) / std
            with torch.no_grad():
                expected = small()(image)[0].argmax(0).numpy()
            mask = each(resized).mask
            assert mask is not None and np.mean(mask == expected) > UNTRAINED


def test_every_size_has_its_own_gate_and_report(bundle: Bundle) -> None:
    for each in (bundle, *bundle.smaller):
        gate = each.segmentation.gate
        assert gate.num_images == 3 and all(check.passed for check in gate.checks)
        assert (each.path / "report.html").is_file()
        record = json.loads((each.path / "report.json").read_text())
        assert record["gate"]["checks"][0]["agreement"] == gate.checks[0].agreement
    agreements = {each.segmentation.gate.checks[0].miou for each in (bundle, *bundle.smaller)}
    assert len(agreements) == 3  # measured at each size, not copied


def test_heads_are_the_same_at_every_size(bundle: Bundle) -> None:
    """The grid too: as many cells at each size as at the largest."""
    assert all(each.segmentation.heads == bundle.segmentation.heads for each in bundle.smaller)
    assert bundle.segmentation.heads[0].grid == (2, 3)


def test_the_report_says_what_each_size_costs(bundle: Bundle) -> None:
    record = json.loads((bundle.path / "report.json").read_text())
    assert [tuple(entry["size"]) for entry in record["smaller"]] == list(SMALLER)
    page = (bundle.path / "report.html").read_text()
    assert "<h2>Sizes</h2>" in page and 'href="sizes/48x64/report.html"' in page
    largest, smaller = (one.segmentation.gate.least("scene", "miou") for one in (bundle, bundle.smaller[0]))
    assert largest is not None and smaller is not None and smaller < largest
    change = f"{100 * (smaller - largest):.2f}".replace("-", "\N{MINUS SIGN}")
    assert f"{100 * smaller:.2f}</td>" in page and change in page
    inner = (bundle.smaller[0].path / "report.html").read_text()
    assert "<h2>Sizes</h2>" not in inner
    assert "48x64: network to ONNX" in inner and "64x96: network to ONNX" not in inner


def test_inspect_shows_sizes_and_their_files(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(bundle.path)]) == 0
    shown = capsys.readouterr().out
    assert "Sizes\n" in shown and "sizes/32x48/model.onnx" in shown
    assert shown.count("intact") == 3
    assert main(["inspect", str(bundle.path), "--json"]) == 0
    plain = json.loads(capsys.readouterr().out)
    assert [one["preprocess"]["size"] for one in plain["smaller"]] == [list(size) for size in SMALLER]
    assert main(["inspect", str(bundle.path / "sizes/32x48")]) == 0
    assert "Sizes\n" not in capsys.readouterr().out


def test_inspect_finds_what_is_damaged(
    bundle: Bundle, small: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(bundle.path, tmp_path / "copy")
    model, manifest = (
        tmp_path / "copy/sizes" / place for place in ("32x48/model.onnx", "48x64/manifest.json")
    )
    model.write_bytes(b"")
    manifest.write_text(manifest.read_text() + " ")
    assert main(["inspect", str(tmp_path / "copy")]) == 1
    shown = capsys.readouterr().out
    assert "model.onnx has 0 bytes" in shown and "48x64/manifest.json has SHA-256" in shown
    assert main(["inspect", str(tmp_path / "copy"), "--json"]) == 1
    plain = json.loads(capsys.readouterr().out)
    assert sorted(plain["problems"]) == ["sizes/32x48/model.onnx", "sizes/48x64/manifest.json"]


# --- from a recipe --------------------------------------------------------------------------------

RECIPE = """\
[model]
entry = "small_network.py:Small"
{args}
[input]
size = [64, 96]
smaller = {smaller}
[[head]]
classes = ["dark", "red", "green", "blue"]
[precision]
type = "fp16"
[gate]
images = "val"
agreement = 0.99
"""


def write_recipe(folder: Path, smaller: str = "[[48, 64]]", args: str = "") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "small_network.py").write_text(NETWORK)
    write_scenes(folder / "val")
    (folder / "recipe.toml").write_text(RECIPE.format(smaller=smaller, args=args))
    return folder / "recipe.toml"


def test_the_command_shows_what_each_size_costs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    recipe = write_recipe(tmp_path / "scenes")
    assert main(["export", str(recipe), "--json"]) == 0
    out, shown = capsys.readouterr()
    record = json.loads(out)
    assert [entry["size"] for entry in record["smaller"]] == [[48, 64]]
    assert "48x64: gate: the original in FP32, 3 images ..." in shown
    assert "gate at" in shown and "against the largest" in shown
    _, _, sizes = shown.partition("against the largest")
    row = next(line.split() for line in sizes.splitlines() if line.strip().startswith("48x64"))
    least = [
        min(check["miou"] for check in gate["checks"])
        for gate in (record["gate"], record["smaller"][0]["gate"])
    ]
    assert row[2:4] == [f"{least[1]:.4f}", f"{least[1] - least[0]:+.4f}"]


@pytest.mark.parametrize(
    ("smaller", "message"),
    [
        ("[48, 64]", r"input.smaller\[0\] is int '48', expected a list"),
        ("[[48, 64], [48, 64]]", "the size 48x64 is there twice"),
        ("[[64, 96]]", "the size 64x96 is there twice"),
        ("[[32, 128]]", "the smaller size 32x128 is higher or wider than the size 64x96"),
        ("[[32, 48], [48, 64]]", "the smaller size 48x64 comes late; from large to small"),
        ("[[48, 0]]", "the smaller size 48x0 has a side below 1"),
        ("[[48, 64, 3]]", r"input.smaller\[0\] has 3 values, expected 2"),
    ],
)
def test_recipes_that_make_no_sense(tmp_path: Path, smaller: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        read_recipe(write_recipe(tmp_path, smaller))


def test_a_gate_that_fails_at_one_size_fails_the_export(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = write_recipe(tmp_path / "scenes", args="args = { blurred_at = 48 }")
    assert main(["export", str(recipe), "--quiet"]) == GateFailed.exit_code
    assert "at the size 48x64: scenes did not pass its gate on 3 images" in capsys.readouterr().err
    assert not (tmp_path / "scenes/bundle").exists()


# --- from Python ----------------------------------------------------------------------------------


def test_a_size_that_the_network_cannot_take(small: Any, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"at the size 42x66: .*") as caught:
        export(small(), tmp_path / "scenes", smaller=[(42, 66)])
    assert "Small" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_is_kept_where_another_size_fails(bundle: Bundle, small: Any, tmp_path: Path) -> None:
    out = tmp_path / "scenes"
    shutil.copytree(bundle.path, out)
    with pytest.raises(GateFailed, match="at the size 48x64"):
        export(small(blurred_at=48), out, smaller=[(48, 64)])
    opened = Bundle.open(out)
    assert opened.manifest == bundle.manifest and len(opened.smaller) == 2


def test_generators_have_one_size(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a generator's bundle has one size"):
        pixelrt_export.export(
            nn.Identity(),
            tmp_path / "faces",
            task="generation",
            latent=4,
            output="tanh",
            smaller=[(8, 8)],  # type: ignore[call-overload]
        )


def test_without_a_gate_every_size_is_recorded_as_skipped(small: Any, tmp_path: Path) -> None:
    made = export(small(), tmp_path / "scenes", smaller=[(48, 64)], gate=False, precision="fp32", images=None)
    assert [each.segmentation.gate.skipped for each in (made, *made.smaller)] == [True, True]
    assert "<h2>Sizes</h2>" in (made.path / "report.html").read_text()


def test_engines_are_built_for_every_size(bundle: Bundle, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed", exc_type=ImportError)
    from pixelrt_export.engines import with_engines
    from pixelrt_export.recipe import TargetSection

    shutil.copytree(bundle.path, tmp_path / "copy")
    built = with_engines(
        Bundle.open(tmp_path / "copy"), [TargetSection(flavour="tensorrt_rtx", sm=(86,))], quiet=True
    )
    for each in (built, *built.smaller):
        engine = each.manifest.artifacts[1]
        assert engine.targets == ("sm86",) and each.read(engine)
        assert engine.file in (each.path / "report.html").read_text()


@pytest.mark.parametrize("command", [["--target", "sm86"], ["--dry-run"]])
def test_the_build_command_goes_through_all_sizes(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed", exc_type=ImportError)
    copy = tmp_path / "copy"
    shutil.copytree(bundle.path, copy)
    assert main(["build", str(copy), "--flavour", "tensorrt_rtx", *command]) == 0
    shown = capsys.readouterr().out
    for place in (copy, copy / "sizes/48x64", copy / "sizes/32x48"):
        assert f"{place}\n" in shown
    opened = Bundle.open(copy)
    number = 1 if command == ["--dry-run"] else 2
    assert [len(each.manifest.artifacts) for each in (opened, *opened.smaller)] == [number] * 3
