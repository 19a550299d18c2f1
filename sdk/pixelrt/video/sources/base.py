"""What every source gives: frames in order, each with its time."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Protocol, get_args

from pixelrt.encoding import FASTEST_FPS, SLOWEST_FPS
from pixelrt.errors import SourceError
from pixelrt.manifest import ColorOrder
from pixelrt.video.events import Event, ignore
from pixelrt.video.frame import Bytes, Frame

__all__ = [
    "BaseSource",
    "Bytes",
    "Frame",
    "Source",
    "SourceOptions",
    "check_color",
    "check_fps",
    "frame_prefix",
    "natural",
    "parse_size",
]

_LONGEST_PX = 16384
DEFAULT_FPS = 25.0
"""Of folders, and of cameras and files that do not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceOptions:
    """What holds for every source.

    Raises:
        SourceError: If no video has such a rate, or the order is unknown.
    """

    labels: Path | None = None
    """Folder of label PNGs."""
    fps: float = DEFAULT_FPS
    """Frames a second of folders, and of cameras and files that do not say."""
    color: ColorOrder = "rgb"
    """Order of the channels that is wanted; decoders give it without a copy."""
    wait: bool = False
    """Whether the iteration waits for a camera that is not there yet; else that is an error at once."""

    def __post_init__(self) -> None:
        check_fps(self.fps)
        check_color(self.color)


class Source(Protocol):
    """Frames to iterate over once, from a file, a folder, a camera or a generator.

    It is a context manager; what it holds (a file, a camera) is given back by `close`. One thread iterates
    and closes; `interrupt` alone may be called from another one.
    """

    on_event: Callable[[Event], None]
    """Told of every change of state, in the thread that iterates; whoever iterates sets it."""

    @property
    def name(self) -> str:
        """What it is, for people and for the names of its frames."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the first frame, as it is delivered; (0, 0) until it is known."""

    @property
    def fps(self) -> float:
        """Frames a second, nominal."""

    @property
    def num_frames(self) -> int | None:
        """How many there will be; None where nobody knows."""

    @property
    def truth_classes(self) -> tuple[str, ...] | None:
        """Names of the classes in `Frame.truth`; None where there is no truth or its names are unknown."""

    @property
    def paths(self) -> tuple[str, ...]:
        """Files and folders that are read, so that no sink overwrites them."""

    @property
    def live(self) -> bool:
        """Whether frames come at their own time, whoever waits for them: those not taken are lost."""

    @property
    def losses(self) -> Mapping[str, int]:
        """Frames that were there and never delivered, by reason (`damaged`, `driver`, ...), so far."""

    def __iter__(self) -> Iterator[Frame]: ...

    def interrupt(self) -> None:
        """End the iteration soon, as if the source had ended, also while it waits for a frame.

        From any thread; safe to call twice, and after `close`.
        """

    def close(self) -> None:
        """Give back what is held. Safe to call twice."""

    def __enter__(self) -> Source: ...

    def __exit__(self, *exception: object) -> None: ...


class BaseSource:
    """The part that all sources share: a context manager that closes.

    A source whose next frame may take long to come must look at `interrupted`.
    """

    truth_classes: tuple[str, ...] | None = None
    paths: tuple[str, ...] = ()
    live = False
    losses: Mapping[str, int] = MappingProxyType({})
    interrupted = False
    on_event: Callable[[Event], None] = staticmethod(ignore)

    def interrupt(self) -> None:
        """End the iteration soon."""
        self.interrupted = True

    def close(self) -> None:
        """Give back what is held."""

    def __exit__(self, *exception: object) -> None:
        self.close()


def natural(name: str) -> list[tuple[int, int, str]]:
    """Key that sorts `frame2` before `frame10`, as people do."""
    parts = re.split(r"(\d+)", name)
    return [(0, int(part), part) if part.isdecimal() else (1, 0, part.lower()) for part in parts if part]


def frame_prefix(name: str) -> str:
    """What names of a source's frames begin with: those are files' names, and a topic's has slashes."""
    return re.sub(r"[\\/]+", "-", name).strip("-") or "frames"


def check_fps(fps: float) -> None:
    """Refuse a rate at which no video can be written.

    Raises:
        SourceError: If it lies outside of `SLOWEST_FPS` to `FASTEST_FPS`.
    """
    if not SLOWEST_FPS <= fps <= FASTEST_FPS:
        raise SourceError(
            f"{fps:g} frames per second were asked for, expected {SLOWEST_FPS:g} to {FASTEST_FPS:g}; try 25"
        )


def check_color(color: str) -> None:
    """Refuse an order of channels that there is not.

    Raises:
        SourceError: If it is neither `rgb` nor `bgr`.
    """
    if color not in get_args(ColorOrder):
        raise SourceError(f"color is {color!r}, expected 'rgb' or 'bgr'")


def parse_size(text: str) -> tuple[int, int]:
    """Height and width from `720x1280`.

    Raises:
        ValueError: If it is no size, or one that no camera has.
    """
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if match is None or not int(match[1]) or not int(match[2]):
        raise ValueError(f"{text!r} is no size; give height x width, such as 720x1280")
    size = int(match[1]), int(match[2])
    if max(size) > _LONGEST_PX:
        raise ValueError(f"{text!r} is too large; height and width are at most {_LONGEST_PX}")
    return size
