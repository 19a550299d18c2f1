"""`pixelrt bench`: its figures, its JSON, its refusals."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from generator_contract import bundles as bundles
from generators import ALL, GAN, PAINTER, Kind

from pixelrt.bundle import MANIFEST, Bundle
from pixelrt.cli import main
from pixelrt.manifest import GenerationCheck

MakeBundle = Callable[..., Bundle]
Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def bundle(make_bundle: MakeBundle) -> Bundle:
    return make_bundle(passed={("openvino", "float32"): True})


def test_for_people(bundle: Bundle, capsys: Capture) -> None:
    assert main(["bench", str(bundle.path), "--frames", "5", "--warmup", "1", "--size", "60x80"]) == 0
    shown = capsys.readouterr().out
    for expected in (
        "colors, 5 frames of 60x80",
        ", cpu, float32",
        "first mask after",
        "frames/s",
        "end to end",
        "scene: 1.00000 of the pixels as PyTorch in float32 (passed)",
    ):
        assert expected in shown


def test_the_json_is_complete(bundle: Bundle, tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    words = ["bench", str(bundle.path), "--frames", "20", "--threads", "1", "--json", str(file)]
    done = subprocess.run(
        [sys.executable, "-m", "pixelrt", *words], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0
    found = json.loads(file.read_text())
    assert found["command"] == ["pixelrt", *words]
    assert found["session"]["precision"] == "float32"
    assert found["threads"] == 1
    assert found["bundle"]["sha256"] == bundle.model.sha256
    assert [check["agreement"] for check in found["gate"]] == [1.0]
    assert found["machine"]["processor"]["cores"] >= 1
    assert found["load_before"]["average_1min"] is not None
    measured = found["measurement"]
    assert measured["frame_size"] == [720, 1280]
    assert 0 < measured["load_s"] < measured["first_mask_s"]
    assert measured["peak_memory_bytes"] > 1e7
    whole = measured["stages"]["end_to_end"]
    assert 0 < whole["p50_ms"] <= whole["p95_ms"] <= whole["p99_ms"] <= whole["max_ms"]
    assert measured["stages"]["network"]["mean_ms"] < whole["mean_ms"]
    assert 0.3e3 / whole["mean_ms"] < measured["frames_per_s"] < 1.01e3 / whole["mean_ms"]


def test_json_on_standard_output_stands_alone(bundle: Bundle, capsys: Capture) -> None:
    words = ["--backend", "onnxruntime", "--frames", "3", "--size", "32x48", "--json", "-"]
    assert main(["bench", str(bundle.path), *words]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["session"]["backend"] == "onnxruntime"
    assert found["gate"] == []


def test_an_unknown_backend(bundle: Bundle, capsys: Capture) -> None:
    assert main(["bench", str(bundle.path), "--backend", "openvno"]) == 2
    assert "(did you mean 'openvino'?)" in capsys.readouterr().err


def test_no_gpu(bundle: Bundle, capsys: Capture) -> None:
    if Path("/proc/driver/nvidia/version").exists():
        pytest.skip("this machine has an NVIDIA driver")
    assert main(["bench", str(bundle.path), "--device", "cuda"]) == 1
    assert "nothing here may run" in capsys.readouterr().err


def test_a_file_that_cannot_be_written(bundle: Bundle, tmp_path: Path, capsys: Capture) -> None:
    words = ["--frames", "1", "--size", "32x48", "--json", str(tmp_path / "missing" / "bench.json")]
    assert main(["bench", str(bundle.path), *words]) == 1
    shown = capsys.readouterr()
    assert f"cannot be written: there is no folder {tmp_path / 'missing'}; make it first" in shown.err
    assert shown.out == ""  # found out before the measurement
    assert list(tmp_path.iterdir()) == []


class TestGenerators:
    @pytest.mark.parametrize(
        ("kind", "words", "expected"),
        [
            (GAN, (), ("gan, 5 calls of 1 x 8x12\n", "Milliseconds per image, after 2 calls")),
            (PAINTER, ("--size", "33x47"), ("painter, 5 calls of 1 x 8x12 from 33x47\n",)),
            (ALL, ("--batch", "7"), ("all, 5 calls of 7 x 8x12 from 8x12\n", "per call of 7 images")),
        ],
        ids=lambda value: getattr(value, "name", None),
    )
    def test_for_people(
        self,
        bundles: Mapping[Kind, Bundle],
        capsys: Capture,
        kind: Kind,
        words: tuple[str, ...],
        expected: tuple[str, ...],
    ) -> None:
        assert main(["bench", str(bundles[kind].path), "--frames", "5", "--warmup", "1", *words]) == 0
        shown = capsys.readouterr().out
        for text in (*expected, "first image after", "images/s", "\n  prepare ", "\n  network "):
            assert text in shown
        assert "not measured for openvino in float32" in shown

    def test_the_gate_is_shown(self, bundles: Mapping[Kind, Bundle], tmp_path: Path, capsys: Capture) -> None:
        bundle = with_checks(bundles[GAN], tmp_path)
        assert main(["bench", str(bundle.path), "--frames", "2", "--backend", "openvino"]) == 0
        assert (
            "PSNR 52.5 dB of the worst image, same bytes of all, SSIM 0.99900, largest difference 3 of 255, "
            "against PyTorch in float32 (passed)"
        ) in capsys.readouterr().out

    def test_the_json_is_complete(self, bundles: Mapping[Kind, Bundle], capsys: Capture) -> None:
        words = ["--frames", "2000", "--batch", "3", "--backend", "onnxruntime", "--json", "-"]
        assert main(["bench", str(bundles[ALL].path), *words]) == 0
        found = json.loads(capsys.readouterr().out)
        measured = found["measurement"]
        assert (measured["calls"], measured["batch"]) == (2000, 3)
        assert (measured["image_size"], measured["input_size"]) == ([8, 12], [8, 12])
        assert 0 < measured["load_s"] <= measured["first_image_s"]
        whole = measured["stages"]["end_to_end"]
        assert measured["stages"]["network"]["mean_ms"] < whole["mean_ms"]
        assert 1e3 / whole["mean_ms"] < measured["images_per_s"] < 3.03e3 / whole["mean_ms"]
        assert found["session"]["backend"] == "onnxruntime"

    def test_what_does_not_fit(self, bundles: Mapping[Kind, Bundle], bundle: Bundle, capsys: Capture) -> None:
        assert main(["bench", str(bundles[GAN].path), "--size", "8x8"]) == 1
        assert "--size is for masks and images, and gan takes none; leave it out" in capsys.readouterr().err
        assert main(["bench", str(bundle.path), "--batch", "2"]) == 1
        assert "--batch is for bundles that write images" in capsys.readouterr().err


def with_checks(bundle: Bundle, folder: Path) -> Bundle:
    """A copy whose gate measured something."""
    check = GenerationCheck(
        backend="openvino",
        device="cpu",
        precision="float32",
        passed=True,
        psnr=52.5,
        mean_psnr=None,
        ssim=0.999,
        max_difference=3,
    )
    manifest = bundle.generation
    gate = dataclasses.replace(manifest.gate, skipped=False, num_images=8, checks=(check,))
    shutil.copytree(bundle.path, folder / "copy")
    (folder / "copy" / MANIFEST).write_text(dataclasses.replace(manifest, gate=gate).to_json())
    return Bundle.open(folder / "copy")
