"""`sensor_msgs/Image` from and to PixelRT, for whatever delivers the messages: rclpy or DDS.

A message here is any object with the fields of the ROS type. What is segmented keeps its header, so that the
mask goes out with the stamp and the frame of reference of its image.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pixelrt.interrupts import started
from pixelrt.manifest import ColorOrder
from pixelrt.terminal import complain
from pixelrt.video.delivery import Delivery
from pixelrt.video.frame import Frame
from pixelrt.video.sources.bags.pixels import PictureError, RawPicture, to_frame
from pixelrt.video.sources.push import PushSource

_MOST_REASONS = 20
"""For a camera that finds a new one for each image."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ImageFrame(Frame):
    """A frame that came as a message."""

    header: Any
    """Of the message."""


class ImageReader:
    """Takes messages in the thread in which they come, and hands the newest over as a frame.

    A message that is no picture is left out: one bad image of a camera does not end a robot's sight.

    Args:
        source: Where the frames go.
        color: Order of the channels that the segmenter wants.
        warn: Told why a message was left out, once for each reason.
    """

    def __init__(
        self, source: PushSource, color: ColorOrder = "rgb", warn: Callable[[str], None] = complain
    ) -> None:
        self.left_out = 0
        """Messages that were no pictures."""
        self._source, self._color, self._warn = source, color, warn
        self._first_s: float | None = None
        self._reasons: set[str] = set()

    def take(self, message: Any) -> bool:
        """Hand a message over.

        Returns:
            Whether more messages are wanted.
        """
        try:
            frame = self._frame(message)
        except PictureError as problem:
            self.leave_out(problem)
            return True
        return self._source.push(frame)

    def leave_out(self, problem: Exception) -> None:
        """Count a message that is no picture."""
        self.left_out += 1
        reason = str(problem)
        if reason not in self._reasons and len(self._reasons) < _MOST_REASONS:
            self._reasons.add(reason)
            self._warn(f"an image of {self._source.name} is left out, as are all such: {reason}")

    def fail(self, problem: Exception) -> None:
        """Say that no more messages can come."""
        self._source.fail(problem)

    def _frame(self, message: Any) -> ImageFrame:
        picture = RawPicture(
            height=message.height,
            width=message.width,
            encoding=message.encoding,
            step=message.step,
            big_endian=bool(message.is_bigendian),
            data=message.data,
        )
        image = to_frame(picture, self._color)
        stamp = message.header.stamp
        stamp_s = stamp.sec + 1e-9 * stamp.nanosec
        self._first_s = stamp_s if self._first_s is None else self._first_s
        return ImageFrame(
            image=image,
            index=0,  # the source counts and names
            time_s=stamp_s - self._first_s,
            name="",
            clock_s=stamp_s,
            color=self._color,
            source=self._source.name,
            header=message.header,
        )


def mask_fields(delivery: Delivery) -> dict[str, Any]:
    """The fields of the message for a mask at the size of its image: `mono8`, class ids.

    `data` is uint8[H * W]; each transport has its own type for bytes.
    """
    frame = delivery.frame
    assert isinstance(frame, ImageFrame)
    height, width = frame.size
    return {
        "header": frame.header,
        "height": height,
        "width": width,
        "encoding": "mono8",
        "is_bigendian": 0,
        "step": width,
        "data": delivery.result.mask_at(frame.size).ravel(),
    }


def in_background(work: Callable[[], None], name: str) -> threading.Thread:
    """Work in a thread of its own, already begun; it does not keep the program alive."""
    return started(threading.Thread(target=work, name=name, daemon=True))
