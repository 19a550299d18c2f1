"""The benchmarks run, on a small network; what they measure on a busy machine is not judged here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from pixelrt.bundle import Bundle
from pixelrt.cli import main
from pixelrt.machine import processor

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SIZE = (32, 48)

RECIPE = f"""
[model]
onnx = "net.onnx"
[input]
size = [{SIZE[0]}, {SIZE[1]}]
[[head]]
classes = ["red", "green", "blue"]
[precision]
type = "fp32"
[gate]
skip = true
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network whose class is the strongest colour, and its bundle beside it."""
    folder = tmp_path_factory.mktemp("benchmarks")
    pick = numpy_helper.from_array(np.eye(3, dtype=np.float32).reshape(3, 3, 1, 1) * 20, "pick")
    shape = ["batch", 3, *SIZE]
    graph = helper.make_graph(
        [helper.make_node("Conv", ["image", "pick"], ["scores"], name="pick")],
        "colors",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, shape)],
        [pick],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, folder / "net.onnx")
    (folder / "recipe.toml").write_text(RECIPE)
    assert main(["export", str(folder / "recipe.toml"), "--quiet"]) == 0
    return folder / "recipe.toml"


def benchmark(script: str, recipe: Path, *words: str) -> tuple[dict[str, Any], str]:
    file = recipe.with_name(f"{script}.json")
    options = ["--bundle", str(recipe.with_name("bundle")), "--json", str(file), *words]
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / script), *options],
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr
    assert file.exists(), done.stderr
    found = json.loads(file.read_text())
    missed = [bar for bar in found["bars"] if bar["verdict"] == "MISSED"]
    assert done.returncode == bool(missed)
    assert found["command"][0] == script
    assert found["machine"]["libraries"]["openvino"]
    bundle = Bundle.open(recipe.with_name("bundle"))
    about = {"name": bundle.manifest.name, "onnx_sha256": bundle.model.sha256, "precision": "fp32"}
    assert found["bundle"] == about
    assert found["load_before"]["average_1min"] is not None
    return found, done.stdout


def test_startup(recipe: Path) -> None:
    found, shown = benchmark("startup.py", recipe, "--rounds", "2")
    assert len(found["rounds"]) == 2
    assert 0 < found["medians"]["load_s"] < found["medians"]["first_mask_s"] < found["medians"]["process_s"]
    assert "import pixelrt, ms" in shown


def test_memory(recipe: Path) -> None:
    found, _ = benchmark("memory.py", recipe, "--frames", "250")
    assert [sample["frame"] for sample in found["resident_bytes"]] == [0, 100, 200, 250]
    assert found["bars"][0]["verdict"] == "met"


def test_cpu_overhead(recipe: Path) -> None:
    options = ("--recipe", str(recipe), "--rounds", "1", "--frames", "3", "--threads", "1")
    found, shown = benchmark("cpu_overhead.py", recipe, *options)
    everybody = {"bare float32", "pixelrt float32", "pixelrt default", "handwritten"}
    everybody |= {"model_api", "model_api_soft"}
    everybody |= {"bare bfloat16", "pixelrt bfloat16"} if processor().bfloat16 else set()
    assert set(found["medians_ms"]) == everybody
    agreement = found["mask_agreement_with_pixelrt"]
    assert agreement["bare float32"] > 0.999
    assert agreement["handwritten"] > 0.999
    assert agreement["model_api"] > 0.99
    assert [bar["name"] for bar in found["bars"]] == [
        "pixelrt / bare in float32",
        "pixelrt / bare in bfloat16",
        "handwritten / pixelrt default",
        "model_api / pixelrt default",
    ]
    assert "same mask" in shown


def test_live_latency(recipe: Path) -> None:
    options = ("--recipe", str(recipe), "--rounds", "1", "--seconds", "2", "--frames", "8", "--pairs", "2")
    found, shown = benchmark("live_latency.py", recipe, *options)
    rounds = found["rounds"]
    films = ("pixelrt", "opencv", "model_api")
    loops = (*films, "opencv_grabber")
    overlays = ("pixelrt", "opencv", "supervision")
    control = "network beside another process"
    everybody = [("control", control), *(("live", who) for who in loops), *(("file", who) for who in films)]
    everybody += [("overlay", who) for who in overlays]
    assert set(rounds) == {f"{task}: {who}" for task, who in everybody}
    for who in loops:
        (watched,) = rounds[f"live: {who}"]
        assert 3 <= watched["frames"] <= watched["sent"]
        assert 0 < watched["all"]["p50_ms"] <= watched["all"]["p99_ms"] <= watched["all"]["max_ms"]
    for turn in (*(f"file: {who}" for who in films), f"control: {control}"):
        (compared,) = rounds[turn]
        ratios = [pair["fps"] * pair["network_ms"] / 1000 for pair in compared["pairs"]]
        assert compared["ratio"] == pytest.approx(np.median(ratios)) and len(ratios) == 2
    assert set(found["file_against_network"]) == {*films, control}
    (watched,) = rounds["live: pixelrt"]
    assert watched["profile"]["network"] > 0
    parts = [part["p50_ms"] for part in watched["parts"].values()]
    assert len(parts) == 5 and min(parts) > 0 and max(parts) <= watched["all"]["max_ms"]
    assert set(rounds["overlay: pixelrt"][0]) == {"pixelrt", "pixelrt with legend"}
    assert set(rounds["overlay: opencv"][0]) == {"opencv", "opencv lut"}
    assert set(rounds["overlay: supervision"][0]) == {"supervision", "supervision in all"}
    assert [bar["limit"] for bar in found["bars"][1:]] == [0.95, 4.0, 1.0]
    assert found["bars"][0]["limit"] == round(2 * found["network_alone_ms"] + 1000 / 30, 1)
    assert "of the network alone" in shown and "decoder: first byte to picture" in shown
    assert "overlay at 1080x1920, one core" in shown


def test_soak(recipe: Path) -> None:
    found, shown = benchmark("soak.py", recipe, "--minutes", "0.1")
    first, *_, last = found["by_minute"]
    assert [row["minute"] for row in found["by_minute"]] == [1, 2, 3, 4]
    assert found["warm_up_s"] == 3.0
    counted = sum(row["frames"] for row in found["by_minute"])
    assert counted < found["stream"]["sources"][0]["delivered"]
    assert first["frames"] > 1 and last["rss_mb"] > last["anonymous_mb"] > 20
    assert all(0 < row["late_p99_ms"] <= row["late_max_ms"] for row in found["by_minute"])
    assert found["last_against_first"]["p99_ms"] == pytest.approx(last["p99_ms"] / first["p99_ms"], abs=1e-4)
    (source,) = found["stream"]["sources"]
    assert source["captured"] == source["delivered"] + sum(source["dropped"].values())
    (sink,) = found["stream"]["sinks"]
    assert sink["written"] > 5 and sink["failed"] == ""
    assert found["bars"][-1]["verdict"] == "met"
    assert "late p99 ms" in shown
