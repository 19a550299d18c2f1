"""Files by their first bytes."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from pixelrt.file_kind import FileKind, kind_of, kind_of_bytes


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        (b"", FileKind.EMPTY),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:12\n", FileKind.LFS_POINTER),
        (b"<!DOCTYPE html><html>", FileKind.WEB_PAGE),
        (b"\n\n  <HTML>", FileKind.WEB_PAGE),
        (b"<!-- saved by a proxy -->\n<html>", FileKind.WEB_PAGE),
        (b"\xef\xbb\xbf<!doctype html>", FileKind.WEB_PAGE),
        ("\ufeff<html>".encode("utf-16-le"), FileKind.WEB_PAGE),
        (b"<?xml version='1.0'?><Error>", FileKind.WEB_PAGE),
        (b'{"schema": 1}', FileKind.JSON),
        (pickle.dumps({}, protocol=2), FileKind.PICKLE),
        (pickle.dumps({}, protocol=5), FileKind.PICKLE),
        (b"\x80\xff", FileKind.UNKNOWN),
        (b"ftrt" + bytes(60), FileKind.TENSORRT_ENGINE),
        (b"vtrt" + bytes(60), FileKind.RTX_ENGINE),
        (b"\x08\x0a\x12\x07pytorch", FileKind.ONNX),
        (b"hello", FileKind.UNKNOWN),
        (b"< 5 is a number", FileKind.UNKNOWN),
    ],
)
def test_first_bytes(start: bytes, kind: FileKind) -> None:
    assert kind_of_bytes(start) is kind


@pytest.mark.parametrize("length", [8, 60, 128, 2048], ids=["like-onnx", "like-html", "like-pickle", "usual"])
def test_safetensors_may_begin_with_any_byte(length: int) -> None:
    header = json.dumps({"__metadata__": {"x": "y" * 3000}}).encode()
    assert kind_of_bytes(length.to_bytes(8, "little") + header) is FileKind.SAFETENSORS


@pytest.mark.parametrize(
    ("member", "kind"),
    [
        ("net/data.pkl", FileKind.TORCH_ARCHIVE),
        ("net/data/0", FileKind.TORCH_ARCHIVE),
        ("net/data/weights/weight_0", FileKind.TORCH_ARCHIVE),
        ("serialized_exported_program.json", FileKind.TORCH_ARCHIVE),
        ("photos/data/cat.jpg", FileKind.ZIP),
        ("net.onnx", FileKind.ZIP),
    ],
)
def test_archives(tmp_path: Path, member: str, kind: FileKind) -> None:
    path = tmp_path / "net.onnx"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, b"x" * 1000)
    assert kind_of(path) is kind


def test_paths(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    assert kind_of(tmp_path) is FileKind.FOLDER
    assert kind_of(path) is FileKind.MISSING
    path.touch()
    assert kind_of(path) is FileKind.EMPTY
    assert kind_of(path / "inside") is FileKind.MISSING


def test_it_needs_no_library() -> None:
    code = "import sys, pixelrt.file_kind; print(sorted({'numpy', 'torch', 'onnx'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "torch" not in done.stdout
    assert "onnx" not in done.stdout
