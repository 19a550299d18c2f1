"""What parent and child tell each other: one JSON object a line. Pixels go through shared memory."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, TypeAlias

from pixelrt.manifest import ColorOrder
from pixelrt.segmentation import Latency
from pixelrt.session import GpuOptions, SessionInfo
from pixelrt.strict import decode


@dataclass(frozen=True, slots=True)
class Plane:
    """An array in the shared memory, in C order."""

    dtype: str
    """NumPy's, with its byte order: `|u1`, `<f4`."""
    shape: tuple[int, ...]
    offset: int
    """Bytes from the start."""


@dataclass(frozen=True, slots=True)
class Load:
    """The first message to the child: what to load."""

    loader: str
    """`module:function`."""
    bundle: str
    """Its folder."""
    options: dict[str, Any]
    """Keyword arguments of the loader."""
    gpu: GpuOptions | None
    """Another one, if there is one."""
    level: int
    """Of `logging`, from which records are worth telling."""


@dataclass(frozen=True, slots=True)
class Request:
    """Segment frames."""

    number: int
    frames: tuple[Plane, ...]


@dataclass(frozen=True, slots=True)
class Ready:
    """The bundle is loaded."""

    info: SessionInfo
    heads: str
    """SHA-256 of what the bundle says about its heads; see `fingerprint`."""


@dataclass(frozen=True, slots=True)
class HeadResult:
    """What one head says of one frame."""

    name: str
    frame_size: tuple[int, int]
    color: ColorOrder
    planes: dict[str, Plane]
    """By the name of the field: mask, confidence, ..."""


@dataclass(frozen=True, slots=True)
class FrameResult:
    """A frame's results, and how long they took in the child."""

    heads: tuple[HeadResult, ...]
    latency: Latency


@dataclass(frozen=True, slots=True)
class Answer:
    """The results of a request."""

    number: int
    results: tuple[FrameResult, ...]


@dataclass(frozen=True, slots=True)
class Failed:
    """An error that was explained, while loading or in the place of an answer."""

    kind: str
    """Its class in `pixelrt.errors`."""
    text: str


@dataclass(frozen=True, slots=True)
class Said:
    """A record of `logging`."""

    logger: str
    level: int
    text: str


Message: TypeAlias = Load | Request | Ready | Answer | Failed | Said
_KINDS: dict[str, type[Message]] = {
    kind.__name__: kind for kind in (Load, Request, Ready, Answer, Failed, Said)
}


def to_line(message: Message) -> str:
    """A message as a line."""
    return json.dumps({type(message).__name__: dataclasses.asdict(message)}) + "\n"


def from_line(line: str | bytes) -> Message:
    """A line as a message.

    Raises:
        ValueError: If it is none.
    """
    data = json.loads(line)
    if not isinstance(data, dict) or len(data) != 1 or not data.keys() <= _KINDS.keys():
        raise ValueError(f"{str(data)[:60]!r} is no message, expected one of {', '.join(_KINDS)}")
    ((name, content),) = data.items()
    return decode(_KINDS[name], content, name)
