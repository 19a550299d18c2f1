"""What every sink does with results."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pixelrt.video.delivery import Delivery

if TYPE_CHECKING:
    from pixelrt.video.live.statistics import StreamView


class Sink(Protocol):
    """Takes results, one after another.

    Ends in `close`, which finishes what was written, or in `abort`, which leaves nothing half-written. As a
    context manager it is closed, or aborted where an error left the block.
    """

    @property
    def wants_overlay(self) -> bool:
        """Whether `write` asks for the overlay, which costs time to draw."""

    def attach(self, stream: StreamView) -> None:
        """See the stream whose results will come; called once, before the first of them.

        Args:
            stream: Can be asked for its figures, from any thread, also after its end.
        """

    def write(self, delivery: Delivery) -> None:
        """Take one result.

        Raises:
            SinkError: If it cannot be written.
        """

    def close(self) -> tuple[Path, ...]:
        """Finish. Safe to call twice.

        Returns:
            The files and folders that now exist.

        Raises:
            SinkError: If it cannot be finished; nothing half-written is left.
        """

    def abort(self) -> None:
        """Give up, and remove what is half-written. Safe after `close`, which it does not undo."""

    def __enter__(self) -> Sink: ...

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None: ...


class BaseSink:
    """The part that all sinks share."""

    wants_overlay = False
    wants_picture = True
    """Whether it looks at frames: those on a GPU are copied to the host for it, before they wait for it."""
    only_source: str | None = None
    """Name of the source whose results it is given; None for all sources."""
    _name = ""

    @property
    def name(self) -> str:
        """What it is called in statistics: its URI, else what it is."""
        return self._name or type(self).__name__

    @name.setter
    def name(self, name: str) -> None:
        self._name = name

    def attach(self, stream: StreamView) -> None:
        """See the stream whose results will come."""

    def close(self) -> tuple[Path, ...]:
        """Finish."""
        return ()

    def abort(self) -> None:
        """Give up."""

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()
