"""`pixelrt inspect` on real bundles, ONNX files, and on what is none of these."""

from __future__ import annotations

import dataclasses
import json
import shutil
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from generator_contract import bundles as bundles
from generators import ALL, FILTER, GAN, Kind

from pixelrt.bundle import MANIFEST, MODEL, Bundle
from pixelrt.cli import main
from pixelrt.manifest import GenerationCheck
from pixelrt.onnx_file import OnnxTensor, read_onnx
from pixelrt.trt import BuildOptions, build_bundle

MakeBundle = Callable[..., Bundle]
Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def bundle(make_bundle: MakeBundle) -> Bundle:
    verdicts = {("openvino", "float32"): True, ("openvino", "bfloat16"): False}
    return make_bundle(heads=("scene", "lane"), precision="fp16", passed=verdicts)


@pytest.fixture(scope="module")
def built(make_bundle: MakeBundle) -> Bundle:
    return build_bundle(make_bundle(), BuildOptions(flavour="tensorrt_rtx", targets=("sm86",)))


class TestBundle:
    def test_for_people(self, bundle: Bundle, capsys: Capture) -> None:
        assert main(["inspect", str(bundle.path)]) == 0
        shown = capsys.readouterr().out
        for expected in (
            "in   frame             uint8    [batch, height, width, 3]",
            "out  lane.mask         uint8    [batch, 32, 48]",
            "1  green  #00ff00",
            "openvino  cpu     bfloat16   scene    0.50000     -     -         0  not used",
            "fp16 asked for; layers: 2 in fp16",
            "intact",
        ):
            assert expected in shown
        assert "\x1b" not in shown

    def test_as_json(self, bundle: Bundle, capsys: Capture) -> None:
        assert main(["inspect", str(bundle.path), "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert (found["kind"], found["intact"], found["problems"]) == ("bundle", True, {})
        assert found["manifest"]["heads"][1]["name"] == "lane"

    def test_a_skipped_gate_is_said(self, make_bundle: MakeBundle, capsys: Capture) -> None:
        assert main(["inspect", str(make_bundle().path)]) == 0
        assert "skipped at the export" in capsys.readouterr().out

    @pytest.mark.parametrize("as_json", [False, True])
    def test_a_changed_file_is_found(
        self, bundle: Bundle, tmp_path: Path, capsys: Capture, as_json: bool
    ) -> None:
        copy = tmp_path / "copy"
        shutil.copytree(bundle.path, copy)
        content = (copy / MODEL).read_bytes()
        (copy / MODEL).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        assert main(["inspect", str(copy), *["--json"] * as_json]) == 1
        shown = capsys.readouterr().out
        if as_json:
            found = json.loads(shown)
            assert not found["intact"]
            assert "was changed or damaged" in found["problems"][MODEL]
        else:
            assert "DAMAGED" in shown
            assert "was changed or damaged" in shown

    def test_a_missing_file_is_not_called_damaged(
        self, bundle: Bundle, tmp_path: Path, capsys: Capture
    ) -> None:
        copy = tmp_path / "copy"
        shutil.copytree(bundle.path, copy)
        (copy / MODEL).unlink()
        assert main(["inspect", str(copy)]) == 1
        shown = capsys.readouterr().out
        assert "MISSING" in shown and "DAMAGED" not in shown


class TestGenerator:
    def test_for_people(self, bundles: Mapping[Kind, Bundle], capsys: Capture) -> None:
        assert main(["inspect", str(bundles[ALL].path)]) == 0
        shown = capsys.readouterr().out
        for expected in (
            "task        generation",
            "in   mask       uint8    [batch, mask_height, mask_width]",
            "out  generated  uint8    [batch, 8, 12, 3]",
            "latent   5 values, normal (mean 0, variance 1)",
            "label    one of 3 (below)",
            "mask     8x12 (HxW), 3 classes (below)",
            "image    8x12 (HxW), 3 channels, rgb, mean 0.5, 0.5, 0.5, std 0.5, 0.5, 0.5",
            "noise_0  1x8x12 values, normal; drawn from the seed",
            "image   8x12 (HxW), 3 channels, rgb",
            "values  0..255 made into bytes 0..255",
            " 1  dog\n",
            " 2  tree   #120000",
            "skipped at the export",
            "intact",
        ):
            assert expected in shown

    def test_the_gate(self, bundles: Mapping[Kind, Bundle], tmp_path: Path, capsys: Capture) -> None:
        manifest = bundles[GAN].generation
        same = GenerationCheck(
            backend="openvino",
            device="cpu",
            precision="float32",
            passed=True,
            psnr=None,
            mean_psnr=None,
            ssim=1.0,
            max_difference=0,
        )
        worse = dataclasses.replace(
            same, precision="bfloat16", passed=False, psnr=31.25, mean_psnr=35.0, ssim=0.9, max_difference=40
        )
        gate = dataclasses.replace(
            manifest.gate, skipped=False, num_images=8, seed=3, images="masks", checks=(same, worse)
        )
        shutil.copytree(bundles[GAN].path, tmp_path / "copy")
        (tmp_path / "copy" / MANIFEST).write_text(dataclasses.replace(manifest, gate=gate).to_json())
        assert main(["inspect", str(tmp_path / "copy")]) == 0
        shown = " ".join(capsys.readouterr().out.split())
        assert (
            "PSNR >= 40 dB, SSIM >= 0.99, max difference <= 32 of 255, "
            "measured on 8 images from masks, seed 3"
        ) in shown
        assert "openvino cpu float32 same bytes same bytes 1.00000 0 passed" in shown
        assert "openvino cpu bfloat16 31.2 dB 35.0 dB 0.90000 40 not used" in shown

    def test_grey_images(self, bundles: Mapping[Kind, Bundle], tmp_path: Path, capsys: Capture) -> None:
        manifest = bundles[FILTER].generation
        assert manifest.image is not None
        image = dataclasses.replace(manifest.image, channels=1, mean=(0.0,), std=(1.0,))
        output = dataclasses.replace(manifest.output, channels=1, range="sigmoid", activation="sigmoid")
        grey = dataclasses.replace(manifest, image=image, output=output)
        shutil.copytree(bundles[FILTER].path, tmp_path / "copy")
        (tmp_path / "copy" / MANIFEST).write_text(grey.to_json())
        assert main(["inspect", str(tmp_path / "copy")]) == 0
        shown = capsys.readouterr().out
        assert "image  8x12 (HxW), 1 channel (grey), mean 0, std 1\n" in shown
        assert "image   8x12 (HxW), 1 channel (grey)\n" in shown
        assert "values  0..1 made into bytes 0..255, after a sigmoid in the graph\n" in shown


class TestOnnx:
    def test_for_people(self, bundle: Bundle, capsys: Capture) -> None:
        assert main(["inspect", str(bundle.path / MODEL)]) == 0
        shown = capsys.readouterr().out
        assert "in   frame             uint8    [batch, height, width, 3]" in shown
        assert f"model of a bundle: try pixelrt inspect {bundle.path}" in shown

    def test_as_json(self, bundle: Bundle, capsys: Capture) -> None:
        assert main(["inspect", str(bundle.path / MODEL), "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["kind"] == "onnx"
        assert found["inputs"] == [
            {"name": "frame", "dtype": "uint8", "shape": ["batch", "height", "width", 3]}
        ]
        assert found["read_with"].startswith("onnxruntime ")

    def test_openvino_reads_it_where_onnxruntime_is_absent(
        self, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
        facts = read_onnx(bundle.path / MODEL)
        assert facts.read_with.startswith("openvino ")
        assert facts.inputs == (OnnxTensor("frame", "uint8", ("?", "?", "?", 3)),)


class TestEngine:
    def test_for_people(self, built: Bundle, capsys: Capture) -> None:
        entry = built.manifest.artifacts[1]
        assert main(["inspect", str(built.path / entry.file)]) == 0
        shown = capsys.readouterr().out
        assert f"TensorRT-RTX {entry.version}, which alone can load it" in shown
        assert "sm86" in shown
        assert "as the bundle's manifest says" in shown

    def test_as_json(self, built: Bundle, capsys: Capture) -> None:
        entry = built.manifest.artifacts[1]
        assert main(["inspect", str(built.path / entry.file), "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert (found["kind"], found["flavour"], found["targets"]) == ("engine", "tensorrt_rtx", ["sm86"])
        assert found["manifest"]["sha256"] == entry.sha256
        assert found["problem"] == ""

    def test_in_its_bundle(self, built: Bundle, capsys: Capture) -> None:
        assert main(["inspect", str(built.path)]) == 0
        shown = capsys.readouterr().out
        assert "engine tensorrt_rtx" in shown
        assert shown.count("intact") == 2

    @pytest.mark.parametrize("text", ['{"name": "a web app", "icons": []}', "[1]", "not JSON"])
    def test_beside_a_manifest_of_something_else(
        self, built: Bundle, tmp_path: Path, capsys: Capture, text: str
    ) -> None:
        file = tmp_path / "road.engine"
        shutil.copy(built.path / built.manifest.artifacts[1].file, file)
        (tmp_path / "manifest.json").write_text(text)
        assert main(["inspect", str(file)]) == 0
        shown = capsys.readouterr().out
        assert "which alone can load it" in shown
        assert "the manifest.json beside it is none of PixelRT's" in shown
        assert main(["inspect", str(file), "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert (found["manifest"], found["problem"]) == (None, "")
        assert "none of PixelRT's" in found["note"]

    def test_a_changed_engine(self, built: Bundle, tmp_path: Path, capsys: Capture) -> None:
        copy = tmp_path / "copy"
        shutil.copytree(built.path, copy)
        file = copy / built.manifest.artifacts[1].file
        content = file.read_bytes()
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        assert main(["inspect", str(file)]) == 1
        assert "was changed or damaged" in capsys.readouterr().out

    def test_a_truncated_engine(self, built: Bundle, tmp_path: Path, capsys: Capture) -> None:
        file = tmp_path / "cut.engine"
        file.write_bytes((built.path / built.manifest.artifacts[1].file).read_bytes()[:1000])
        assert main(["inspect", str(file)]) == 1
        shown = capsys.readouterr()
        assert shown.out == ""
        assert shown.err.startswith(f"error: {file} has 1000 bytes, its header says ")


class TestOthers:
    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("model.onnx", b"version https://git-lfs.github.com/spec/v1\noid ", "is a Git LFS pointer"),
            ("model.onnx", b"<!DOCTYPE html><html>", "is a web page or XML, not a model"),
            ("model.onnx", b"\xef\xbb\xbf<!-- proxy --><html>", "is a web page or XML, not a model"),
            ("net.onnx", b"PK\x03\x04" + bytes(30), "is a zip archive; unpack it"),
            ("net.onnx", b"\x28" + bytes(7) + b'{"w": 1}', "is safetensors, the weights of a network"),
            ("model.onnx", b"", "is empty; export, build or copy it again"),
            ("model.onnx", b"\x08\x0agarbage", "cannot be read as an ONNX file (onnxruntime: "),
            ("net.engine", b"hello", "is no TensorRT engine: it begins with b'hello'"),
            ("net.pth", b"\x80\x02}q", "is a Python pickle, such as an old PyTorch checkpoint"),
            ("manifest.json", b"{}", "is a JSON file; give the bundle's folder instead"),
            ("notes.txt", b"hello", "is neither a bundle, an engine nor an ONNX file"),
        ],
    )
    def test_are_explained(
        self, tmp_path: Path, capsys: Capture, name: str, content: bytes, message: str
    ) -> None:
        file = tmp_path / name
        file.write_bytes(content)
        assert main(["inspect", str(file)]) == 1
        shown = capsys.readouterr()
        assert shown.out == ""
        assert shown.err.startswith(f"error: {file} {message}")

    def test_a_checkpoint(self, tmp_path: Path, capsys: Capture) -> None:
        with zipfile.ZipFile(tmp_path / "net.pt", "w") as archive:
            archive.writestr("net/data.pkl", b"")
        assert main(["inspect", str(tmp_path / "net.pt")]) == 1
        assert "is a PyTorch checkpoint, TorchScript or .pt2 file" in capsys.readouterr().err

    def test_a_folder_that_is_no_bundle(self, tmp_path: Path, capsys: Capture) -> None:
        assert main(["inspect", str(tmp_path)]) == 1
        assert "is not a bundle: no manifest.json in it" in capsys.readouterr().err

    def test_nothing(self, tmp_path: Path, capsys: Capture) -> None:
        assert main(["inspect", str(tmp_path / "nothing")]) == 1
        assert "does not exist; expected a bundle, an engine or an ONNX file" in capsys.readouterr().err
