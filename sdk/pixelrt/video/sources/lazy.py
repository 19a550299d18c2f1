"""A source that is opened when it is iterated over."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from pixelrt.video.frame import Frame
from pixelrt.video.sources.base import DEFAULT_FPS, BaseSource, Source

LATE_S = 0.25
"""A reader that takes longer than this for the first frame gets none of those that waited meanwhile."""


class Lazy(BaseSource):
    """One try of `Reconnecting`: opens a source, whose values hold from its first frame on; live until then.

    Args:
        opener: Opens it, and raises SourceError where that fails. It is asked with what tells whether the
            iteration was ended meanwhile.
        name: Its name, known before.
    """

    def __init__(self, opener: Callable[[Callable[[], bool]], Source], name: str) -> None:
        self.name = name
        self.size, self.fps, self.live = (0, 0), DEFAULT_FPS, True
        self.num_frames: int | None = None
        self._opener = opener
        self._source: Source | None = None

    def __enter__(self) -> Lazy:
        return self

    @property
    def losses(self) -> Mapping[str, int]:  # type: ignore[override]
        """Of the source."""
        return {} if self._source is None else self._source.losses

    def __iter__(self) -> Iterator[Frame]:
        if self.interrupted:
            return
        source = self._opener(lambda: self.interrupted)
        source.on_event = lambda event: self.on_event(event)
        self.size, self.fps = source.size, source.fps
        self.live, self.num_frames = source.live, source.num_frames
        self._source = source
        if self.interrupted:  # in the meantime, when it could not be told
            source.interrupt()
        yield from source

    def interrupt(self) -> None:
        """End the iteration soon."""
        self.interrupted = True
        if self._source is not None:
            self._source.interrupt()

    def close(self) -> None:
        """Close the source."""
        self.interrupted = True
        if self._source is not None:
            self._source.close()
