"""What a person sees while a run goes: a panel for live sources, a bar for files, lines where nobody sees."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pixelrt.dependency import require
from pixelrt.errors import MissingDependency
from pixelrt.progress import showing_progress
from pixelrt.terminal import complain, is_terminal

if TYPE_CHECKING:
    from pixelrt.video.events import Event, EventKind
    from pixelrt.video.live.statistics import StreamView
    from pixelrt.video.run import Observers, Progress
    from pixelrt.video.sources import Source

View = Callable[["StreamView"], AbstractContextManager[object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """How a run is shown."""

    title: str
    """What runs."""
    plain: bool = False
    """Whether it is lines also on a terminal: results are written to it."""
    logged: bool = False
    """Whether statistics are logged: each is a line, in place of those that tell the progress."""


@contextlib.contextmanager
def displayed(sources: Sequence[Source], look: Look, views: Sequence[View]) -> Iterator[Observers]:
    """Show how a run goes on standard error.

    On a terminal a run with live sources has a panel, and one of files a bar; elsewhere, and without rich,
    there is a line every few seconds. Changes of state are lines in all cases.

    Args:
        sources: Of the run.
        look: How it is shown.
        views: What else sees the stream.
    """
    from pixelrt.video.live.opening import unique
    from pixelrt.video.run import Observers

    live = any(source.live for source in sources)
    names = unique([source.name for source in sources])
    awaited = [name for name, source in zip(names, sources, strict=True) if not all(source.size)]
    event = _Events(quiet=("connected", "ended") if not live else (), awaited=awaited)
    with contextlib.ExitStack() as shown:
        if look.logged:
            shown.enter_context(_statistics_as_lines())
        if live and not look.plain and _can_draw():
            from pixelrt.cli.panel import Panel

            panels: tuple[View, ...] = (lambda stream: Panel(stream, look.title).shown(),)
            shown.enter_context(_warnings_as_lines())
            yield Observers(event=event, silence=_silent, views=(*views, *panels))
            return
        progress = shown.enter_context(_progress(look))
        shown.enter_context(_warnings_as_lines())
        yield Observers(progress=progress, event=event, silence=_silent, views=views)


@contextlib.contextmanager
def _progress(look: Look) -> Iterator[Callable[[Progress], None]]:
    """A bar, or a line every few seconds unless there are others."""
    if look.logged and (look.plain or not _can_draw()):
        yield lambda now: None
        return
    with showing_progress(plain=look.plain) as show:

        def progress(now: Progress) -> None:
            show("frames", now.frames, now.total, f"{now.fps:.1f} frames/s, p50 {now.p50_ms:.1f} ms")

        yield progress


@contextlib.contextmanager
def _warnings_as_lines() -> Iterator[None]:
    """Write the library's warnings as lines, without tracebacks; events are shown already."""
    handler = _Lines(logging.WARNING)
    handler.addFilter(lambda record: record.name != "pixelrt.video.events")
    with _handled(logging.getLogger("pixelrt"), handler):
        yield


@contextlib.contextmanager
def _statistics_as_lines() -> Iterator[None]:
    """Write the statistics that are logged as lines."""
    logger = logging.getLogger("pixelrt.video.statistics")
    before = logger.level
    logger.setLevel(logging.INFO)
    try:
        with _handled(logger, _Lines()):
            yield
    finally:
        logger.setLevel(before)


@contextlib.contextmanager
def _handled(logger: logging.Logger, handler: logging.Handler) -> Iterator[None]:
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


class _Lines(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        level = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
        _line(f"{level}{record.getMessage()}")


def _line(text: str) -> None:
    complain(f"{time.strftime('%H:%M:%S')} {text}")


class _Events:
    """Writes a line for each change of state, but for the first frame of a source that was there.

    Args:
        quiet: Kinds that are not worth one.
        awaited: Names of sources that were not there.
    """

    def __init__(self, quiet: Sequence[EventKind], awaited: Sequence[str]) -> None:
        from pixelrt.video.repeats import Repeats

        self._quiet, self._repeats = quiet, Repeats()
        self._talked_of = set(awaited)

    def __call__(self, event: Event) -> None:
        expected = event.kind == "connected" and event.source not in self._talked_of
        self._talked_of.add(event.source)
        line = self._repeats.line(event)
        if line is not None and not expected and event.kind not in self._quiet:
            _line(line)


def _silent(seconds: float) -> None:
    _line(f"warning: no result for {seconds:.1f} s")


def _can_draw() -> bool:
    """Whether standard error is a terminal, and rich is there."""
    if not is_terminal(sys.stderr):
        return False
    try:
        require("rich.live", "cli", "the live panel")
    except MissingDependency:
        return False
    return True
