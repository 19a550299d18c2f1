"""What an engine file says in its first bytes, without TensorRT and without a GPU.

NVIDIA documents none of this; trtexec reads the mark and the version at the same places. The rest was found
out with TensorRT-RTX 1.7.1 (the size equals the file's, the mask follows the targets). For diagnostics:
whether an engine runs is for TensorRT to say.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path

from pixelrt.errors import BundleError, EngineMismatch
from pixelrt.file_kind import NUM_BYTES, FileKind, kind_of_bytes
from pixelrt.trt.library import FLAVOURS, Flavour

_MARKS: dict[bytes, Flavour] = {b"ftrt": "tensorrt", b"vtrt": "tensorrt_rtx"}
_HEADER = {"tensorrt": struct.Struct("<4sI16x4B"), "tensorrt_rtx": struct.Struct("<4sI8xQ4B4sI28x")}
_FORMAT = 0
_BUCKETS = ("sm75", "sm80", "sm86", "sm89", "sm120", "sm121", "newer than sm121")
_LEAST_BYTES = 64

_OTHERS = {
    FileKind.EMPTY: "empty",
    FileKind.LFS_POINTER: "a Git LFS pointer; fetch the file itself with: git lfs pull",
    FileKind.WEB_PAGE: "a web page; download the file itself",
    FileKind.ONNX: "an ONNX file, it seems",
    **{
        kind: kind.value
        for kind in (
            FileKind.JSON,
            FileKind.PICKLE,
            FileKind.TORCH_ARCHIVE,
            FileKind.ZIP,
            FileKind.SAFETENSORS,
        )
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineHeader:
    """What the first bytes of an engine say."""

    flavour: Flavour
    version: str
    """Version of the TensorRT that built it. It alone can load it, unless the engine was built for newer
    ones too, which the header does not say."""
    targets: tuple[str, ...]
    """GPUs that it was built for; empty for the regular TensorRT, whose engines do not say."""
    size_bytes: int


def inspect_engine(path: str | os.PathLike[str]) -> EngineHeader:
    """Read what an engine file says about itself.

    Raises:
        BundleError: If the file cannot be read, is no engine, or is not as long as it says itself (which only
            engines of TensorRT-RTX do).
        EngineMismatch: If it is an engine in a format that this version does not know.
    """
    file = Path(path)
    try:
        with file.open("rb") as stream:
            start = stream.read(NUM_BYTES)
            size_bytes = os.fstat(stream.fileno()).st_size
    except OSError as problem:
        raise BundleError(
            f"{file} cannot be read ({problem.strerror}); an engine file was expected"
        ) from problem
    flavour = _MARKS.get(start[:4])
    if flavour is None:
        raise BundleError(
            f"{file} is no TensorRT engine: {_what(start)}; an engine begins with 'ftrt' or 'vtrt'"
        )
    if len(start) < _LEAST_BYTES:
        raise BundleError(
            f"{file} has {size_bytes} bytes, which is less than the header of an engine: it was cut short; "
            "build or copy it again"
        )
    mark, form, *rest = _HEADER[flavour].unpack_from(start)
    if form != _FORMAT:
        raise EngineMismatch(
            f"{file} is an engine of {FLAVOURS[flavour]} in format {form}, this PixelRT knows format "
            f"{_FORMAT}; update PixelRT"
        )
    if flavour == "tensorrt":
        return EngineHeader(flavour=flavour, version=_dotted(rest), targets=(), size_bytes=size_bytes)
    told_bytes, *version, again, mask = rest
    if again != mark:
        raise BundleError(f"{file} has a damaged header; build or copy it again")
    if told_bytes != size_bytes:
        raise BundleError(
            f"{file} has {size_bytes} bytes, its header says {told_bytes}: it was cut short or changed; "
            "build or copy it again"
        )
    return EngineHeader(
        flavour=flavour, version=_dotted(version), targets=_targets(mask), size_bytes=size_bytes
    )


def _dotted(numbers: list[int]) -> str:
    return ".".join(map(str, numbers))


def _targets(mask: int) -> tuple[str, ...]:
    named = [name for bit, name in enumerate(_BUCKETS) if mask >> bit & 1]
    unknown = [f"bit {bit}" for bit in range(len(_BUCKETS), 32) if mask >> bit & 1]
    return (*named, *unknown)


def _what(start: bytes) -> str:
    kind = kind_of_bytes(start)
    return f"it is {_OTHERS[kind]}" if kind in _OTHERS else f"it begins with {start[:8]!r}"
