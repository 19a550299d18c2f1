"""What came out of a source of stamped pictures, and that it is all right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import stamped

from pixelrt.video.frame import Frame


@dataclass(frozen=True, slots=True)
class Seen:
    """A frame without its pixels."""

    index: int
    time_s: float
    captured_s: float
    name: str
    size: tuple[int, int]
    stamp: stamped.Stamp | None
    """None: the picture is damaged."""


def seen(frame: Frame) -> Seen:
    stamp = stamped.read(frame.image)
    return Seen(frame.index, frame.time_s, frame.captured_s, frame.name, frame.size, stamp)


def check(frames: Sequence[Seen], *, damage: bool = False, gaps: bool = False) -> None:
    """Growing numbers and times, no picture twice, none out of order, none invented or damaged.

    Args:
        frames: In their order.
        damage: Whether data were damaged in ways that no decoder can know.
        gaps: Whether numbers may be missing, because a loop dropped frames.
    """
    numbers = [frame.index for frame in frames]
    assert all(before < after for before, after in pairwise(numbers))
    assert gaps or numbers == list(range(len(frames)))
    assert len({frame.name for frame in frames}) == len(frames)
    assert all(before.time_s < after.time_s for before, after in pairwise(frames))
    assert all(before.captured_s <= after.captured_s for before, after in pairwise(frames))
    pictures = [frame.stamp.index for frame in frames if frame.stamp is not None]
    assert all(before < after for before, after in pairwise(pictures)), "one twice, or out of order"
    assert damage or len(pictures) == len(frames), "a picture that the camera never took"
