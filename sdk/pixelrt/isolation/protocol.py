"""What parent and child tell each other: one JSON object a line. Pixels go through shared memory."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from pixelrt.frames import Latency
from pixelrt.manifest import ColorOrder
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
    warm_up: tuple[tuple[int, int], ...]
    """Frame sizes to warm up for before it is ready."""
    level: int
    """Of `logging`, from which records are worth telling."""


@dataclass(frozen=True, slots=True)
class Request:
    """Segment frames. Requests are answered in their order."""

    number: int
    slot: int
    """Where the results go, and where the frames are, unless `in_buffer`."""
    frames: tuple[Plane, ...]
    how: Literal["call", "submit", "batch"]
    """As the caller asked: with `submit`, other requests may come before this one is answered."""
    in_buffer: bool
    """Whether the frame is in the memory of `FrameBuffers`."""


@dataclass(frozen=True, slots=True)
class WarmUp:
    """Warm up for frames of a size."""

    size: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Warm:
    """That is done."""


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

    number: int
    """Of the request; 0 while loading and warming up."""
    kind: str
    """Its class in `pixelrt.errors`."""
    text: str


@dataclass(frozen=True, slots=True)
class Said:
    """A record of `logging`."""

    logger: str
    level: int
    text: str


Message: TypeAlias = Load | Request | WarmUp | Ready | Answer | Warm | Failed | Said
_KINDS: dict[str, type[Message]] = {
    kind.__name__: kind for kind in (Load, Request, WarmUp, Ready, Answer, Warm, Failed, Said)
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
