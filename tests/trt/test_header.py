"""What an engine file says without TensorRT."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from onnx import helper

from pixelrt.errors import BundleError, EngineMismatch
from pixelrt.trt import BuildOptions, build_engine, inspect_engine

TARGETS = ("sm75", "sm89", "sm121")


@pytest.fixture(scope="module")
def engine(make_model: Callable[..., bytes]) -> bytes:
    content = make_model(helper.make_node("Relu", ["x"], ["y"], name="relu"))
    return build_engine(content, {}, BuildOptions(flavour="tensorrt_rtx", targets=TARGETS)).content


def test_an_engine(engine: bytes, tmp_path: Path) -> None:
    file = tmp_path / "any.name"
    file.write_bytes(engine)
    found = inspect_engine(file)
    assert found.targets == TARGETS
    assert found.size_bytes == len(engine)


@pytest.mark.parametrize("kept", [10, 63, 64, 1000, -1])
def test_cut_short(engine: bytes, tmp_path: Path, kept: int) -> None:
    file = tmp_path / "x.engine"
    file.write_bytes(engine[:kept])
    with pytest.raises(BundleError, match=r"cut short.*; build or copy it again"):
        inspect_engine(file)


def test_damaged_header(engine: bytes, tmp_path: Path) -> None:
    file = tmp_path / "x.engine"
    file.write_bytes(engine[:28] + b"zzzz" + engine[32:])
    with pytest.raises(BundleError, match="damaged header"):
        inspect_engine(file)


def test_a_format_to_come(engine: bytes, tmp_path: Path) -> None:
    file = tmp_path / "x.engine"
    file.write_bytes(engine[:4] + b"\x07" + engine[5:])
    with pytest.raises(EngineMismatch, match=r"TensorRT-RTX in format 7, .*; update PixelRT"):
        inspect_engine(file)


def test_the_regular_tensorrt_at_the_places_that_trtexec_reads(tmp_path: Path) -> None:
    file = tmp_path / "x.engine"
    file.write_bytes(b"ftrt" + bytes(20) + bytes([10, 3, 0, 26]) + bytes(100))
    found = inspect_engine(file)
    assert (found.flavour, found.version, found.targets) == ("tensorrt", "10.3.0.26", ())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is empty"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"<!DOCTYPE html>", "a web page"),
        (b"\x80\x02}q\x00.", "it is a Python pickle"),
        (b"PK\x03\x04" + bytes(60), "it is a zip archive"),
        (b"\x08\x08\x12\x07pytorch", "an ONNX file, it seems"),
        (b"whatever else", "it begins with b'whatever'; an engine begins with 'ftrt' or 'vtrt'"),
    ],
)
def test_other_files(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "x.engine"
    file.write_bytes(content)
    with pytest.raises(BundleError, match=message):
        inspect_engine(file)


@pytest.mark.parametrize("name", ["missing.engine", "."])
def test_unreadable(tmp_path: Path, name: str) -> None:
    with pytest.raises(BundleError, match="cannot be read"):
        inspect_engine(tmp_path / name)
