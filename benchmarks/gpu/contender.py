"""What takes part: from frames on the host to masks on the host, a turn at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from pixelrt.session import GpuTimes

Bytes = NDArray[np.uint8]
Item = TypeVar("Item")
Step = Callable[[Bytes], Bytes]
"""From a frame uint8[H, W, 3] to its mask uint8[h, w], both on the host."""


class NotMeasuredError(Exception):
    """A contender cannot take part; the message says why."""


@dataclass(slots=True, kw_only=True)
class Turn:
    """What one turn gave."""

    frames: int = 0
    """Frames whose masks are there."""
    wall_s: float = 0.0
    """From the first frame given to the last mask taken."""
    latencies_ms: list[float] = field(default_factory=list)
    """Per frame, from giving it to holding its mask; empty where no whole frame is processed."""
    times: list[GpuTimes] = field(default_factory=list)
    """Per run of the network, where it tells; empty otherwise."""

    def add(self, other: Turn) -> None:
        """Pool it with another turn."""
        self.frames += other.frames
        self.wall_s += other.wall_s
        self.latencies_ms += other.latencies_ms
        self.times += other.times


class Contender(Protocol):
    """A way to segment frames, ready to go."""

    def about(self) -> dict[str, Any]:
        """Library, version, precision and what else distinguishes it."""
        ...

    def turn(self, frames: Sequence[Bytes], count: int) -> Turn:
        """Process a number of frames, going round in `frames`."""
        ...

    def masks(self, frames: Sequence[Bytes]) -> list[Bytes]:
        """The masks of frames, uint8[h, w], for comparison; empty where there are none."""
        ...

    def close(self) -> None:
        """Free what it holds."""
        ...


class SteppingContender:
    """Takes one frame at a time and holds its mask before the next."""

    def __init__(self, step: Step, about: dict[str, Any], close: Callable[[], None]) -> None:
        self._about = about
        self._step: Step | None = step
        self._close = close

    def about(self) -> dict[str, Any]:
        """See `Contender.about`."""
        return self._about

    def turn(self, frames: Sequence[Bytes], count: int) -> Turn:
        """See `Contender.turn`."""
        step = self._open_step()
        turn = Turn(frames=count)
        began = time.perf_counter()
        for frame in cycle(frames, count):
            given = time.perf_counter()
            step(frame)
            turn.latencies_ms.append((time.perf_counter() - given) * 1e3)
        turn.wall_s = time.perf_counter() - began
        return turn

    def masks(self, frames: Sequence[Bytes]) -> list[Bytes]:
        """See `Contender.masks`."""
        step = self._open_step()
        return [step(frame) for frame in frames]

    def close(self) -> None:
        """See `Contender.close`."""
        self._step = None  # with all that it holds
        self._close()

    def _open_step(self) -> Step:
        if self._step is None:
            raise NotMeasuredError("it is closed")
        return self._step


def cycle(frames: Sequence[Item], count: int) -> Iterator[Item]:
    """That many frames, from the beginning again after the last."""
    for index in range(count):
        yield frames[index % len(frames)]
