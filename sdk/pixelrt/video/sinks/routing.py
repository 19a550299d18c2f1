"""A sink that takes the results of one source among several."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pixelrt.video.delivery import Delivery
from pixelrt.video.sinks.base import BaseSink, Sink, left_by, progress_of
from pixelrt.video.sources.base import Source

if TYPE_CHECKING:
    from pixelrt.video.live.statistics import StreamView


def each_its_own(sinks: Sequence[Sink], sources: Sequence[Source]) -> list[Sink]:
    """Sinks of which each takes the results of one source, in the same order."""
    if len(sources) == 1:
        return list(sinks)
    pairs = zip(sinks, sources, strict=True)
    return [OneSource(sink, place, source.name) for place, (sink, source) in enumerate(pairs)]


class OneSource(BaseSink):
    """Hands the results of one source to a sink, and leaves the others alone.

    Args:
        sink: Where they go; it is closed and aborted with this.
        place: Of the source, among those of the stream.
        name: Of the source; a stream may call it otherwise, where two sources have one name.
    """

    def __init__(self, sink: Sink, place: int, name: str) -> None:
        self.sink, self._place, self.only_source = sink, place, name
        self.wants_overlay = sink.wants_overlay
        self.wants_picture = getattr(sink, "wants_picture", True)
        self._name = getattr(sink, "name", "")

    def attach(self, stream: StreamView) -> None:
        """See the stream."""
        self.only_source = stream.sources[self._place].name
        self.sink.attach(stream)

    def write(self, delivery: Delivery) -> None:
        """Take one result, or leave it.

        Raises:
            SinkError: If it cannot be written.
        """
        if delivery.frame.source == self.only_source:
            self.sink.write(delivery)

    def close(self) -> tuple[Path, ...]:
        """Finish."""
        return self.sink.close()

    def abort(self) -> None:
        """Give up."""
        self.sink.abort()

    def remains(self) -> tuple[Path, ...]:
        """What is there after `abort`."""
        return left_by(self.sink)

    def progress(self) -> object:
        """How far `close` is."""
        return progress_of(self.sink)
