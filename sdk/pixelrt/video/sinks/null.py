"""`null:`, which keeps nothing: for measuring."""

from __future__ import annotations

from pixelrt.video.delivery import Delivery
from pixelrt.video.sinks.base import BaseSink


class NullSink(BaseSink):
    """Takes everything and keeps nothing."""

    def __enter__(self) -> NullSink:
        return self

    def write(self, delivery: Delivery) -> None:
        """Do nothing."""
