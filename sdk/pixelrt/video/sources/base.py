"""What every source gives: frames in order, each with its time."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pixelrt.encoding import FASTEST_FPS, SLOWEST_FPS
from pixelrt.errors import SourceError

Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Frame:
    """One image of a source. The arrays belong to whoever receives the frame."""

    image: Bytes
    """uint8[H, W, 3], RGB."""
    index: int
    """Position in the source, from 0."""
    time_s: float
    """Seconds since the source's first frame."""
    name: str
    """Unlike every other name of the source; a file name without its suffix."""
    truth: Bytes | None = None
    """The right class ids, uint8[H, W], where the source knows them."""

    def __post_init__(self) -> None:
        if self.image.ndim != 3 or self.image.shape[2] != 3 or self.image.dtype != np.uint8:
            raise SourceError(
                f"frame {self.name} is {self.image.dtype}{list(self.image.shape)}, expected uint8[H, W, 3]"
            )
        if self.truth is not None and self.truth.shape != self.image.shape[:2]:
            raise SourceError(
                f"frame {self.name} is {self.image.shape[:2]} (height, width) and its labels are "
                f"{self.truth.shape}; give labels of the same size"
            )

    def __repr__(self) -> str:
        rows, cols = self.image.shape[:2]
        truth = "" if self.truth is None else ", truth"
        return f"Frame({self.name!r}, index={self.index}, time_s={self.time_s:.3f}, {rows}x{cols}{truth})"


class Source(Protocol):
    """Frames to iterate over once, from a file, a folder, a camera or a generator.

    It is a context manager; what it holds (a file, a camera) is given back by `close`.
    """

    @property
    def name(self) -> str:
        """What it is, for people and for the names of its frames."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the first frame, as it is delivered."""

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

    def __iter__(self) -> Iterator[Frame]: ...

    def close(self) -> None:
        """Give back what is held. Safe to call twice."""

    def __enter__(self) -> Source: ...

    def __exit__(self, *exception: object) -> None: ...


class BaseSource:
    """The part that all sources share: a context manager that closes."""

    truth_classes: tuple[str, ...] | None = None
    paths: tuple[str, ...] = ()

    def close(self) -> None:
        """Give back what is held."""

    def __exit__(self, *exception: object) -> None:
        self.close()


def natural(name: str) -> list[tuple[int, int, str]]:
    """Key that sorts `frame2` before `frame10`, as people do."""
    parts = re.split(r"(\d+)", name)
    return [(0, int(part), part) if part.isdecimal() else (1, 0, part.lower()) for part in parts if part]


def check_fps(fps: float) -> None:
    """Refuse a rate at which no video can be written.

    Raises:
        SourceError: If it lies outside of `SLOWEST_FPS` to `FASTEST_FPS`.
    """
    if not SLOWEST_FPS <= fps <= FASTEST_FPS:
        raise SourceError(
            f"{fps:g} frames per second were asked for, expected {SLOWEST_FPS:g} to {FASTEST_FPS:g}; try 25"
        )


def parse_size(text: str) -> tuple[int, int]:
    """Height and width from `720x1280`.

    Raises:
        ValueError: If it is no size.
    """
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if match is None or not int(match[1]) or not int(match[2]):
        raise ValueError(f"{text!r} is no size; give height x width, such as 720x1280")
    return int(match[1]), int(match[2])
