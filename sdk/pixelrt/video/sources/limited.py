"""The first frames of a source."""

from __future__ import annotations

from collections.abc import Iterator

from pixelrt.errors import InputError
from pixelrt.video.events import Event
from pixelrt.video.sources.around import Around
from pixelrt.video.sources.base import Frame, Source


class Limited(Around):
    """Ends after some frames, or when it is interrupted, whatever the source does about that.

    Args:
        source: It is closed with this.
        limit: How many frames at most; None for all of them.

    Raises:
        InputError: If the limit is below 1.
    """

    def __init__(self, source: Source, limit: int | None = None) -> None:
        if limit is not None and limit < 1:
            raise InputError(f"limit is {limit}, expected at least 1 frame")
        super().__init__(source)
        self._limit = limit
        self._interrupted = False

    def __enter__(self) -> Limited:
        return self

    @property
    def num_frames(self) -> int | None:
        """How many there will be; None where nobody knows."""
        known = [count for count in (self._source.num_frames, self._limit) if count is not None]
        return min(known, default=None)

    def __iter__(self) -> Iterator[Frame]:
        frames, given = iter(self._source), 0
        while not self._interrupted and given != self._limit:
            frame = next(frames, None)
            if frame is None:
                return
            given += 1
            yield frame
        if given == self._limit:
            detail = f"{given} frame{'s' if given != 1 else ''}, as asked"
            self.on_event(Event(kind="ended", source=self.name, detail=detail))

    def interrupt(self) -> None:
        """End the iteration soon."""
        self._interrupted = True
        self._source.interrupt()
