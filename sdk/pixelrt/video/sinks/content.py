"""What recordings and viewers hold of a result: pictures, times, names."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from pixelrt.dependency import require
from pixelrt.errors import SinkError
from pixelrt.manifest import ClassInfo
from pixelrt.video.delivery import Delivery
from pixelrt.video.frame import Bytes, Frame
from pixelrt.video.sources.address import switch, whole

_LATEST_S = 2**32
_SLIGHT_NS, _LEAST_NS = 10**9, 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What is recorded."""

    camera: bool = True
    """The frames, as JPEG."""
    quality: int = 90
    """Of JPEG, 1 to 100."""
    mask: bool = True
    """Class ids at the size of the frame, without loss."""
    overlay: bool = False
    """The frames with the classes drawn over them, as JPEG."""


CONTENT_READERS = {"camera": switch, "quality": whole(1, 100), "mask": switch, "overlay": switch}
"""Of the options of a URI, by the fields of `Content`."""


def camera_jpeg(frame: Frame, quality: int) -> bytes:
    """A frame as JPEG.

    Raises:
        SinkError: If OpenCV cannot.
        InputError: If it is on a GPU and cannot be copied from there.
    """
    image = frame.on_host()
    return _jpeg(image if frame.color == "bgr" else image[..., ::-1], quality)


def overlay_jpeg(delivery: Delivery, quality: int) -> bytes:
    """An overlay as JPEG.

    Raises:
        SinkError: If OpenCV cannot.
        InputError: If the bundle emits no mask.
    """
    return _jpeg(delivery.overlay()[..., ::-1], quality)


class FrameClock:
    """When frames were taken: by their source's clock, else by this machine's as it was when this was made.

    So the frames of a recording stay in their order when somebody sets the clock of the machine or of the
    camera, and when the clock of the camera becomes known after its first frames.

    Args:
        film_start_ns: Of films: when they shall have begun, in nanoseconds since 1970. Their frames without a
            clock were taken when the film says, not when they were read. None for cameras.
    """

    def __init__(self, film_start_ns: int | None = None) -> None:
        self._film_start_ns = film_start_ns
        self._offset_ns = time.time_ns() - time.monotonic_ns()
        self._last: dict[str, tuple[int, float]] = {}
        """By source: the time of its last frame, and when that was captured."""

    def taken_ns(self, frame: Frame) -> int:
        """Nanoseconds since 1970, growing for the frames of a source, in their order.

        A clock outside the years 1970 to 2106, which formats cannot hold, is none.
        """
        at_ns = self._told_ns(frame)
        if frame.source in self._last:
            last_ns, captured_s = self._last[frame.source]
            if at_ns <= last_ns:  # by a little: wait for it; by more: the time that went by counts
                passed_ns = (
                    round((frame.captured_s - captured_s) * 1e9) if last_ns - at_ns > _SLIGHT_NS else 0
                )
                at_ns = last_ns + max(passed_ns, _LEAST_NS)
        self._last[frame.source] = at_ns, frame.captured_s
        return at_ns

    def _told_ns(self, frame: Frame) -> int:
        if frame.clock_s is not None and 0 <= frame.clock_s < _LATEST_S:
            return round(frame.clock_s * 1e9)
        if self._film_start_ns is not None:
            return self._film_start_ns + round(frame.time_s * 1e9)
        return self._offset_ns + round(frame.captured_s * 1e9)


def describe(classes: tuple[ClassInfo, ...]) -> str:
    """Classes as JSON: `[{"id": 0, "name": "sky", "color": "#808080"}, ...]`."""
    return json.dumps(
        [
            {"id": id_, "name": info.name, "color": "#{:02x}{:02x}{:02x}".format(*info.color)}
            for id_, info in enumerate(classes)
        ]
    )


def topic_of(source: str, taken: Collection[str]) -> str:
    """What the topics of a source begin with: its name in letters, digits and `_`, unlike those taken."""
    plain = re.sub(r"\W+", "_", source).strip("_") or "source"
    topic, count = plain, 1
    while topic in taken:
        count += 1
        topic = f"{plain}_{count}"
    return topic


def _jpeg(image: Bytes, quality: int) -> bytes:
    cv2 = require("cv2", "video", "writing pictures")
    encoded, content = cv2.imencode(".jpg", np.ascontiguousarray(image), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not encoded:
        raise SinkError(f"OpenCV cannot encode {image.shape} as JPEG; leave pictures out: camera=no")
    return bytes(content)
