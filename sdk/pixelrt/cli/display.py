"""What a person sees while a run goes: a panel for live sources, a bar for files, lines where nobody sees."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from pixelrt.dependency import require
from pixelrt.errors import MissingDependency
from pixelrt.progress import showing_progress
from pixelrt.terminal import complain

if TYPE_CHECKING:
    from pixelrt.video.events import Event, EventKind
    from pixelrt.video.live.statistics import StreamView
    from pixelrt.video.run import Observers, Progress
    from pixelrt.video.sources import Source

View = Callable[["StreamView"], AbstractContextManager[object]]


@contextlib.contextmanager
def displayed(
    sources: Sequence[Source], title: str, views: Sequence[View], *, plain: bool = False
) -> Iterator[Observers]:
    """Show how a run goes on standard error.

    On a terminal a run with live sources has a panel, and one of files a bar; elsewhere, and without rich,
    there is a line every few seconds. Changes of state are lines in all cases.

    Args:
        sources: Of the run.
        title: What runs.
        views: What else sees the stream.
        plain: Whether it is lines also on a terminal: results are written to it.
    """
    from pixelrt.video.run import Observers

    live = any(source.live for source in sources)
    event = _Events(quiet=("connected", "ended") if not live else ())
    if live and not plain and _can_draw():
        from pixelrt.cli.panel import Panel

        panels: tuple[View, ...] = (lambda stream: Panel(stream, title).shown(),)
        with _warnings_as_lines():
            yield Observers(event=event, silence=_silent, views=(*views, *panels))
        return
    with showing_progress(plain=plain) as show, _warnings_as_lines():

        def progress(now: Progress) -> None:
            show("frames", now.frames, now.total, f"{now.fps:.1f} frames/s, p50 {now.p50_ms:.1f} ms")

        yield Observers(progress=progress, event=event, silence=_silent, views=views)


@contextlib.contextmanager
def _warnings_as_lines() -> Iterator[None]:
    """Write the library's warnings as lines, without tracebacks; events are shown already."""
    handler = _Lines(logging.WARNING)
    handler.addFilter(lambda record: record.name != "pixelrt.video.events")
    logger = logging.getLogger("pixelrt")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


class _Lines(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        _line(f"{record.levelname.lower()}: {record.getMessage()}")


def _line(text: str) -> None:
    complain(f"{time.strftime('%H:%M:%S')} {text}")


class _Events:
    """Writes a line for each change of state, but for the first frame of each source.

    Args:
        quiet: Kinds that are not worth one.
    """

    def __init__(self, quiet: Sequence[EventKind]) -> None:
        from pixelrt.video.repeats import Repeats

        self._quiet, self._repeats = quiet, Repeats()
        self._connected: set[str] = set()

    def __call__(self, event: Event) -> None:
        first = event.kind == "connected" and event.source not in self._connected
        if first:
            self._connected.add(event.source)
        line = self._repeats.line(event)
        if line is not None and not first and event.kind not in self._quiet:
            _line(line)


def _silent(seconds: float) -> None:
    _line(f"warning: no result for {seconds:.1f} s")


def _can_draw() -> bool:
    """Whether standard error is a terminal, and rich is there."""
    if not sys.stderr.isatty():
        return False
    try:
        require("rich.live", "cli", "the live panel")
    except MissingDependency:
        return False
    return True
