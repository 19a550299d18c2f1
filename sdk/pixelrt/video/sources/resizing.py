"""Frames that have another size from now on: told by every source in the same words."""

from __future__ import annotations

from pixelrt.video.events import Event
from pixelrt.video.sources.base import Source


class SizeWatch:
    """Tells of every change of size.

    Args:
        source: Its `on_event` is told.
        size: Height and width of the first frame; None where nobody knows it yet.
    """

    def __init__(self, source: Source, size: tuple[int, int] | None) -> None:
        self._source, self._size = source, size

    def see(self, size: tuple[int, int]) -> None:
        """A frame of that height and width is given next."""
        before, self._size = self._size, size
        if before is not None and before != size:
            detail = f"frames are {_by(size)} now, they were {_by(before)}"
            self._source.on_event(Event(kind="resized", source=self._source.name, detail=detail))


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
