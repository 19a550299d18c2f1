"""What a file is by its first bytes, for messages about files that are taken for a model."""

from __future__ import annotations

import os
import re
from enum import Enum
from pathlib import Path

NUM_BYTES = 512
"""As many of the first bytes are looked at."""


class FileKind(Enum):
    """What lies at a path."""

    MISSING = "nothing"
    FOLDER = "a folder"
    EMPTY = "empty"
    LFS_POINTER = "a Git LFS pointer"
    WEB_PAGE = "a web page"
    """HTML or XML: what a download saves that was an error or a login."""
    JSON = "JSON"
    PICKLE = "a Python pickle"
    """Such as a PyTorch file of old."""
    TORCH_ARCHIVE = "a PyTorch archive"
    """Weights, a pickled module, TorchScript or a `.pt2`."""
    ZIP = "a zip archive"
    SAFETENSORS = "safetensors"
    ONNX = "ONNX"
    """By a mark of one byte alone: ONNX has no other."""
    TENSORRT_ENGINE = "an engine of TensorRT"
    RTX_ENGINE = "an engine of TensorRT-RTX"
    UNKNOWN = "something else"


_STARTS = {
    b"version https://git-lfs": FileKind.LFS_POINTER,
    b"ftrt": FileKind.TENSORRT_ENGINE,
    b"vtrt": FileKind.RTX_ENGINE,
    b"\x08": FileKind.ONNX,  # the field of its IR version
}
_TORCH_MEMBER = re.compile(
    rb"[^/]+/(\.data/.*|\.format_version|archive_format|byteorder|constants\.pkl|data\.pkl|data/\d+"
    rb"|data/(weights|constants|sample_inputs)/.*|models/.*\.json|version)|serialized_\w+\.(json|pt)"
)
"""The first member of an archive that PyTorch wrote."""


def kind_of(path: str | os.PathLike[str]) -> FileKind:
    """What lies at a path.

    Raises:
        OSError: If it cannot be read.
    """
    place = Path(path)
    if place.is_dir():
        return FileKind.FOLDER
    try:
        with place.open("rb") as stream:
            return kind_of_bytes(stream.read(NUM_BYTES))
    except (FileNotFoundError, NotADirectoryError):
        return FileKind.MISSING


def kind_of_bytes(start: bytes) -> FileKind:
    """What a file is that begins with these bytes, the first `NUM_BYTES` of them or all."""
    if not start:
        return FileKind.EMPTY
    if _is_safetensors(start):  # first, because the length may look like any other mark
        return FileKind.SAFETENSORS
    for mark, kind in _STARTS.items():
        if start.startswith(mark):
            return kind
    if start.startswith(b"PK\x03\x04"):
        return _zip_kind(start)
    if start[0] == 0x80 and start[1:2] in (b"\2", b"\3", b"\4", b"\5"):  # its protocol
        return FileKind.PICKLE
    return _text_kind(start)


def _is_safetensors(start: bytes) -> bool:
    """The length of a JSON table in 8 bytes, and its brace."""
    return start[8:9] == b"{" and start[5:8] == bytes(3)


def _zip_kind(start: bytes) -> FileKind:
    length = int.from_bytes(start[26:28], "little")
    is_torch = _TORCH_MEMBER.fullmatch(start[30 : 30 + length])
    return FileKind.TORCH_ARCHIVE if is_torch else FileKind.ZIP


def _text_kind(start: bytes) -> FileKind:
    if start[:2] in (b"\xff\xfe", b"\xfe\xff"):  # UTF-16
        start = start[2:].replace(b"\0", b"")
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    if re.match(rb"<[!?a-zA-Z]", text):
        return FileKind.WEB_PAGE
    return FileKind.JSON if text.startswith(b"{") else FileKind.UNKNOWN
