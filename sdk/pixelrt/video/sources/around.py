"""A source around another one."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pixelrt.video.events import Event
from pixelrt.video.sources.base import Source


class Around:
    """Passes everything on to a source, but its frames; the base of sources that change another one.

    Args:
        source: It is closed with this.
    """

    def __init__(self, source: Source) -> None:
        self._source = source

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def on_event(self) -> Callable[[Event], None]:
        """Told of every change of state."""
        return self._source.on_event

    @on_event.setter
    def on_event(self, told: Callable[[Event], None]) -> None:
        self._source.on_event = told

    @property
    def name(self) -> str:
        """What it is."""
        return self._source.name

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the first frame."""
        return self._source.size

    @property
    def fps(self) -> float:
        """Frames a second, nominal."""
        return self._source.fps

    @property
    def num_frames(self) -> int | None:
        """How many there will be."""
        return self._source.num_frames

    @property
    def truth_classes(self) -> tuple[str, ...] | None:
        """Names of the classes of the labels."""
        return self._source.truth_classes

    @property
    def paths(self) -> tuple[str, ...]:
        """What is read."""
        return self._source.paths

    @property
    def live(self) -> bool:
        """Whether frames come at their own time."""
        return self._source.live

    @property
    def losses(self) -> Mapping[str, int]:
        """Frames that were there and never delivered, by reason."""
        return self._source.losses

    def interrupt(self) -> None:
        """End the iteration soon."""
        self._source.interrupt()

    def close(self) -> None:
        """Close the source."""
        self._source.close()
