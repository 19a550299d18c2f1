"""`null:`, which keeps nothing: for measuring."""

from __future__ import annotations

from pixelrt.segmentation import Segmentation
from pixelrt.video.sinks.base import BaseSink, Bytes
from pixelrt.video.sources import Frame


class NullSink(BaseSink):
    """Takes everything and keeps nothing."""

    def __enter__(self) -> NullSink:
        return self

    def write(self, frame: Frame, result: Segmentation, overlay: Bytes | None) -> None:
        """Do nothing."""
