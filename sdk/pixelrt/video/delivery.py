"""A result on its way out, with its frame and the age of that frame at each stage."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import NamedTuple

from pixelrt.segmentation import Segmentation
from pixelrt.video.artist import Picture
from pixelrt.video.frame import Bytes, Frame


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """When a frame passed each stage, by `time.monotonic`, in seconds."""

    captured_s: float
    """Taken by the camera; see `Frame.captured_s`."""
    received_s: float
    """Decoded, and in the hands of the loop."""
    submitted_s: float
    """Handed to the network."""
    computed_s: float
    """Its result was there."""
    delivered_s: float
    """Handed to whoever holds this: the program, or a sink."""

    @property
    def ages_ms(self) -> dict[str, float]:
        """Milliseconds since it was captured, per stage: received, submitted, computed, delivered."""
        stages = ("received", "submitted", "computed", "delivered")
        return {stage: 1e3 * (getattr(self, f"{stage}_s") - self.captured_s) for stage in stages}


class _Pair(NamedTuple):
    frame: Frame
    result: Segmentation


class Delivery(_Pair):
    """What a stream gives: `for frame, result in stream` takes it apart.

    Attributes:
        frame: What was segmented.
        result: What came out.
        times: When the frame passed each stage.
        picture: Draws the overlay when it is first asked for; shared by all who get this result.
        size: Height and width of the network that computed it (`adaptive` changes it).
    """

    times: Times
    picture: Picture
    size: tuple[int, int]

    def __new__(  # noqa: D102  # described above
        cls,
        frame: Frame,
        result: Segmentation,
        *,
        times: Times,
        picture: Picture,
        size: tuple[int, int],
    ) -> Delivery:
        made = super().__new__(cls, frame, result)
        made.times, made.picture, made.size = times, picture, size
        return made

    def __repr__(self) -> str:
        return f"Delivery({self.frame!r}, {self.result!r}, age_ms={self.age_ms:.1f})"

    @property
    def age_ms(self) -> float:
        """From capture to delivery."""
        return self.times.ages_ms["delivered"]

    def overlay(self) -> Bytes:
        """The frame with the classes drawn over it, uint8[H, W, 3] RGB; do not write into it.

        Raises:
            InputError: If the bundle emits no mask.
        """
        return self.picture.drawn()

    def kept(self) -> Delivery:
        """The same with the frame that is drawn over: a copy on the host where a sink needs one."""
        frame = self.picture.frame
        return Delivery(frame, self.result, times=self.times, picture=self.picture, size=self.size)

    def delivered_at(self, now_s: float) -> Delivery:
        """The same, handed over at `now_s` (`time.monotonic`)."""
        times = dataclasses.replace(self.times, delivered_s=now_s)
        return Delivery(self.frame, self.result, times=times, picture=self.picture, size=self.size)
