"""The topics of one source in an MCAP file: camera, mask, overlay, coverage and latency."""

from __future__ import annotations

from typing import Any

from pixelrt.dependency import require
from pixelrt.manifest import ClassInfo
from pixelrt.video.delivery import Delivery
from pixelrt.video.frame import Bytes
from pixelrt.video.sinks.content import Content, FrameClock, camera_jpeg, describe, overlay_jpeg
from pixelrt.video.sources.bags.recording import CLASSES_KEY

PURPOSE = "writing MCAP"
_STAGES = ("received", "submitted", "computed", "delivered")
_STAMP = "timestamp"
_TIME_SCHEMA = {
    "type": "object",
    "title": "time",
    "properties": {"sec": {"type": "integer"}, "nsec": {"type": "integer"}},
}


class SourceTopics:
    """Writes the results of one source.

    Args:
        root: What its topics begin with: `front`.
        classes: Of the masks.
        context: Of the file that is written.
        options: What is recorded.
        clock: Of all topics of the file.
    """

    def __init__(
        self, root: str, classes: tuple[ClassInfo, ...], context: Any, options: Content, clock: FrameClock
    ) -> None:
        self._foxglove = require("foxglove", "foxglove", PURPOSE)
        self._messages = require("foxglove.messages", "foxglove", PURPOSE)
        channels = require("foxglove.channels", "foxglove", PURPOSE)
        self.root, self._options, self._clock = root, options, clock
        about = {CLASSES_KEY: describe(classes)}
        self._mask = channels.RawImageChannel(f"/{root}/mask", metadata=about, context=context)
        self._camera = channels.CompressedImageChannel(f"/{root}/camera", context=context)
        self._overlay = channels.CompressedImageChannel(f"/{root}/overlay", metadata=about, context=context)
        self._keys = _keys([info.name for info in classes])
        shares = {key: {"type": "number", "minimum": 0, "maximum": 1} for key in self._keys.values()}
        ages = {f"{stage}_ms": {"type": "number"} for stage in _STAGES}
        self._coverage = self._json("coverage", "pixelrt.Coverage", shares, context)
        self._latency = self._json("latency", "pixelrt.Latency", ages, context)

    def write(self, delivery: Delivery) -> None:
        """Write a result to each topic, all at the time at which its frame was taken."""
        frame, result, options = delivery.frame, delivery.result, self._options
        at_ns = self._clock.taken_ns(frame)
        if options.camera:
            self._camera.log(self._picture(camera_jpeg(frame, options.quality), at_ns), log_time=at_ns)
        if options.mask:
            self._mask.log(self._ids(result.mask_at(frame.size), at_ns), log_time=at_ns)
        if options.overlay:
            self._overlay.log(self._picture(overlay_jpeg(delivery, options.quality), at_ns), log_time=at_ns)
        shares = {self._keys[name]: share for name, share in result.coverage().items()}
        self._coverage.log(self._stamped(shares, at_ns), log_time=at_ns)
        ages = {f"{stage}_ms": round(age, 3) for stage, age in delivery.times.ages_ms.items()}
        self._latency.log(self._stamped(ages, at_ns), log_time=at_ns)

    def close(self) -> None:
        """End the topics."""
        for channel in (self._camera, self._mask, self._overlay, self._coverage, self._latency):
            channel.close()

    def _json(self, name: str, title: str, values: dict[str, Any], context: Any) -> Any:
        schema = {"type": "object", "title": title, "properties": {_STAMP: _TIME_SCHEMA, **values}}
        return self._foxglove.Channel(f"/{self.root}/{name}", schema=schema, context=context)

    def _stamped(self, values: dict[str, float], at_ns: int) -> dict[str, Any]:
        seconds, nanoseconds = divmod(at_ns, 10**9)
        return {_STAMP: {"sec": seconds, "nsec": nanoseconds}, **values}

    def _picture(self, jpeg: bytes, at_ns: int) -> Any:
        return self._messages.CompressedImage(
            timestamp=self._timestamp(at_ns), frame_id=self.root, format="jpeg", data=jpeg
        )

    def _ids(self, mask: Bytes, at_ns: int) -> Any:
        height, width = mask.shape
        return self._messages.RawImage(
            timestamp=self._timestamp(at_ns),
            frame_id=self.root,
            width=width,
            height=height,
            encoding="mono8",
            step=width,
            data=mask.tobytes(),
        )

    def _timestamp(self, at_ns: int) -> Any:
        return self._messages.Timestamp(*divmod(at_ns, 10**9))


def _keys(names: list[str]) -> dict[str, str]:
    """What the shares of classes are called: as the classes, but none as the time of the message."""
    key = _STAMP
    while key in names:
        key += "_"
    return {name: key if name == _STAMP else name for name in names}
