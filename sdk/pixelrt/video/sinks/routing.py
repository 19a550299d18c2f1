"""A sink that takes the results of one source among several."""

from __future__ import annotations

from pathlib import Path

from pixelrt.video.delivery import Delivery
from pixelrt.video.sinks.base import BaseSink, Sink


class OneSource(BaseSink):
    """Hands the results of one source to a sink, and leaves the others alone.

    Args:
        sink: Where they go; it is closed and aborted with this.
        source: Name of the source.
    """

    def __init__(self, sink: Sink, source: str) -> None:
        self.sink, self.source = sink, source
        self.wants_overlay = sink.wants_overlay

    def __enter__(self) -> OneSource:
        return self

    def write(self, delivery: Delivery) -> None:
        """Take one result, or leave it.

        Raises:
            SinkError: If it cannot be written.
        """
        if delivery.frame.source == self.source:
            self.sink.write(delivery)

    def close(self) -> tuple[Path, ...]:
        """Finish."""
        return self.sink.close()

    def abort(self) -> None:
        """Give up."""
        self.sink.abort()
