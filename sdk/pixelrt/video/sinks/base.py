"""What every sink does with results."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from pixelrt.errors import InputError
from pixelrt.strict import type_of
from pixelrt.video.delivery import Delivery

if TYPE_CHECKING:
    from pixelrt.video.live.statistics import StreamView

_METHODS = ("attach", "write", "close", "abort")
Own = TypeVar("Own", bound="BaseSink")


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


def check_sink(given: object) -> None:
    """Refuse what is no sink before a stream begins, not when it fails.

    Raises:
        InputError: If a method of `Sink` is missing; the message names it.
    """
    if isinstance(given, type):
        raise InputError(f"sinks holds the class {given.__name__}, expected a sink that is made of it")
    missing = [name for name in _METHODS if not callable(getattr(given, name, None))]
    if missing == list(_METHODS):
        raise InputError(
            f"sinks holds {type_of(given)}, expected sinks or URIs such as 'out.mp4' or 'masks/'"
        )
    if not hasattr(given, "wants_overlay"):
        missing.append("wants_overlay")
    if missing:
        raise InputError(
            f"sinks holds {type_of(given)}, which has no {', '.join(missing)}; derive it from "
            "pixelrt.video.sinks.base.BaseSink, which has all that a sink needs but write"
        )


def checked_outputs(given: object, name: str, method: str = "close") -> tuple[Path, ...]:
    """What `close` of a sink gave.

    Args:
        given: It.
        name: Of the sink, for the message.
        method: What gave it, if it was another one.

    Raises:
        InputError: If it is no tuple of paths.
    """
    if isinstance(given, tuple) and all(isinstance(path, Path) for path in given):
        return given
    raise InputError(
        f"sink {name}: its {method} gave {given!r}, expected a tuple with the Path of every file that it "
        "made, () for none; its results are written"
    )


def left_by(sink: Sink) -> tuple[Path, ...]:
    """What is there of a sink that was given up, if it can tell."""
    return sink.remains() if isinstance(sink, BaseSink) else ()


def progress_of(sink: Sink) -> object:
    """What differs as long as a sink gets on with what it does, if it can tell."""
    return sink.progress() if isinstance(sink, BaseSink) else None


def tells_progress(sink: Sink) -> bool:
    """Whether a sink can tell."""
    return isinstance(sink, BaseSink) and type(sink).progress is not BaseSink.progress


class BaseSink:
    """The part that all sinks share; `write` is for each to add.

    All sinks and the program share what `write` gets. The arrays of results are read-only; frames are not,
    because they may be the arrays of who gave them: copy an image before you draw on it.
    """

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

    def remains(self) -> tuple[Path, ...]:
        """The files and folders that are there after `abort`, such as the finished parts of a recording."""
        return ()

    def progress(self) -> object:
        """Something that differs as long as `close` gets on, however long it takes; from any thread."""
        return None

    def __enter__(self: Own) -> Own:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()
