"""`Stream`: what a program holds while the loop runs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Any

from pixelrt.closing import Closing
from pixelrt.video.delivery import Delivery
from pixelrt.video.health import Health
from pixelrt.video.live.options import StreamArguments, StreamOptions
from pixelrt.video.live.statistics import SourceStatus, StreamStatistics

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from pixelrt.isolation import IsolatedSegmenter
    from pixelrt.segmentation import Segmenter


class Stream(Closing):
    """Results of frames as they come.

    A `for` loop (or `async for`) over it ends it, however it is left. It is also a context manager.
    """

    def __init__(self, segmenter: Segmenter | IsolatedSegmenter, source: Any, options: StreamOptions) -> None:
        """Use `Segmenter.stream`."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[Delivery]:
        raise NotImplementedError

    def __next__(self) -> Delivery:
        raise NotImplementedError

    def __aiter__(self) -> AsyncIterator[Delivery]:
        raise NotImplementedError

    def run(self, on_result: Callable[[Delivery], None] | None = None) -> StreamStatistics:
        """Run to the end, calling back with every result, in this thread.

        Args:
            on_result: None leaves the results to the sinks.
        """
        raise NotImplementedError

    @property
    def health(self) -> Health:
        """As the worst source is; failed after an error."""
        raise NotImplementedError

    @property
    def sources(self) -> tuple[SourceStatus, ...]:
        """Every source, in the order in which they were given."""
        raise NotImplementedError

    def statistics(self) -> StreamStatistics:
        """All figures, of one moment; from any thread, also after the end."""
        raise NotImplementedError

    def close(self) -> None:
        """Stop, from any thread. Safe to call twice."""
        raise NotImplementedError


def stream(
    segmenter: Segmenter | IsolatedSegmenter, source: Any, **options: Unpack[StreamArguments]
) -> Stream:
    """Segment the frames of a source as they come. See `Segmenter.stream`."""
    return Stream(segmenter, source, StreamOptions.of(options))
