"""The topics of one source in an MCAP file: camera, mask, overlay, coverage and latency."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from pixelrt.cuda.interop import is_on_device
from pixelrt.dependency import require
from pixelrt.errors import SinkError
from pixelrt.manifest import ClassInfo
from pixelrt.video.delivery import Delivery
from pixelrt.video.frame import Bytes, Frame

PURPOSE = "writing MCAP"
_STAGES = ("received", "submitted", "computed", "delivered")
_TIME_SCHEMA = {
    "type": "object",
    "title": "time",
    "properties": {"sec": {"type": "integer"}, "nsec": {"type": "integer"}},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicOptions:
    """What is recorded."""

    camera: bool = True
    """The frames, as JPEG."""
    quality: int = 90
    """Of JPEG, 1 to 100."""
    mask: bool = True
    """Class ids at the size of the frame, without loss."""
    overlay: bool = False
    """The frames with the classes drawn over them, as JPEG."""


class SourceTopics:
    """Writes the results of one source.

    Args:
        root: What its topics begin with: `/front`.
        classes: Of the masks.
        context: Of the file that is written.
        options: What is recorded.
    """

    def __init__(
        self, root: str, classes: tuple[ClassInfo, ...], context: Any, options: TopicOptions
    ) -> None:
        self._foxglove = require("foxglove", "foxglove", PURPOSE)
        self._messages = require("foxglove.messages", "foxglove", PURPOSE)
        channels = require("foxglove.channels", "foxglove", PURPOSE)
        self._root, self._options = root, options
        about = {"pixelrt.classes": describe(classes)}
        self._mask = channels.RawImageChannel(f"{root}/mask", metadata=about, context=context)
        self._camera = channels.CompressedImageChannel(f"{root}/camera", context=context)
        self._overlay = channels.CompressedImageChannel(f"{root}/overlay", context=context)
        shares = {info.name: {"type": "number", "minimum": 0, "maximum": 1} for info in classes}
        ages = {f"{stage}_ms": {"type": "number"} for stage in _STAGES}
        self._coverage = self._json("coverage", "pixelrt.Coverage", shares, context)
        self._latency = self._json("latency", "pixelrt.Latency", ages, context)

    def write(self, delivery: Delivery) -> None:
        """Write a result to each topic, all at the time at which its frame was taken."""
        frame, result, options = delivery.frame, delivery.result, self._options
        at_ns = taken_ns(frame)
        if options.camera:
            self._camera.log(self._jpeg(_bgr(frame), at_ns), log_time=at_ns)
        if options.mask:
            self._mask.log(self._ids(result.mask_at(frame.size), at_ns), log_time=at_ns)
        if options.overlay:
            self._overlay.log(self._jpeg(delivery.overlay()[..., ::-1], at_ns), log_time=at_ns)
        self._coverage.log(self._stamped(result.coverage(), at_ns), log_time=at_ns)
        ages = {f"{stage}_ms": round(age, 3) for stage, age in delivery.times.ages_ms.items()}
        self._latency.log(self._stamped(ages, at_ns), log_time=at_ns)

    def close(self) -> None:
        """End the topics."""
        for channel in (self._camera, self._mask, self._overlay, self._coverage, self._latency):
            channel.close()

    def _json(self, name: str, title: str, values: dict[str, Any], context: Any) -> Any:
        schema = {"type": "object", "title": title, "properties": {"timestamp": _TIME_SCHEMA, **values}}
        return self._foxglove.Channel(f"{self._root}/{name}", schema=schema, context=context)

    def _stamped(self, values: dict[str, float], at_ns: int) -> dict[str, Any]:
        seconds, nanoseconds = divmod(at_ns, 10**9)
        return {"timestamp": {"sec": seconds, "nsec": nanoseconds}, **values}

    def _jpeg(self, image: Bytes, at_ns: int) -> Any:
        cv2 = require("cv2", "video", PURPOSE)
        quality = [cv2.IMWRITE_JPEG_QUALITY, self._options.quality]
        encoded, content = cv2.imencode(".jpg", np.ascontiguousarray(image), quality)
        if not encoded:
            raise SinkError(f"OpenCV cannot encode {image.shape} as JPEG; leave pictures out: camera=no")
        return self._messages.CompressedImage(
            timestamp=self._timestamp(at_ns),
            frame_id=self._root.strip("/"),
            format="jpeg",
            data=content.tobytes(),
        )

    def _ids(self, mask: Bytes, at_ns: int) -> Any:
        height, width = mask.shape
        return self._messages.RawImage(
            timestamp=self._timestamp(at_ns),
            frame_id=self._root.strip("/"),
            width=width,
            height=height,
            encoding="mono8",
            step=width,
            data=mask.tobytes(),
        )

    def _timestamp(self, at_ns: int) -> Any:
        return self._messages.Timestamp(*divmod(at_ns, 10**9))


def taken_ns(frame: Frame) -> int:
    """When a frame was taken, in nanoseconds since 1970: by its source's clock, else by this machine's."""
    if frame.clock_s is not None:
        return round(frame.clock_s * 1e9)
    return time.time_ns() - round((time.monotonic() - frame.captured_s) * 1e9)


def describe(classes: tuple[ClassInfo, ...]) -> str:
    """Classes as JSON: `[{"id": 0, "name": "sky", "color": "#808080"}, ...]`."""
    return json.dumps(
        [
            {"id": id_, "name": info.name, "color": "#{:02x}{:02x}{:02x}".format(*info.color)}
            for id_, info in enumerate(classes)
        ]
    )


def _bgr(frame: Frame) -> Bytes:
    if is_on_device(frame.image):
        raise SinkError(f"frame {frame.name} is on the GPU, and JPEG is made on the host; record camera=no")
    image: Bytes = frame.image
    return image if frame.color == "bgr" else image[..., ::-1]
