"""Progress of long work on standard error."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import Any, Protocol

from pixelrt.dependency import require
from pixelrt.errors import MissingDependency
from pixelrt.terminal import complain, console, is_terminal

_LINE_EVERY_S = 5.0


class ShowProgress(Protocol):
    """Tells how far a phase has come. Phases may nest; one ends when `done` reaches `total`."""

    def __call__(self, phase: str, done: int, total: int | None, note: str = "") -> None:
        """Show it.

        Args:
            phase: Its name.
            done: How much is done.
            total: How much there is; None where nobody knows.
            note: What else there is to say, such as the rate.
        """


@contextlib.contextmanager
def showing_progress(*, plain: bool = False) -> Iterator[ShowProgress]:
    """Bars on a terminal, gone when this is left; plain lines, one in five seconds, everywhere else.

    Bars are drawn by rich. On a terminal without it there are plain lines too: they say the same, and no
    command needs rich.

    Args:
        plain: Whether there are lines on a terminal, too.
    """
    rich = _rich() if is_terminal(sys.stderr) and not plain else None
    if rich is None:
        yield _Lines()
        return
    columns = (
        rich.TextColumn("{task.description}", markup=False),
        rich.BarColumn(),
        rich.TextColumn("{task.completed:.0f}{task.fields[of]}"),
        rich.TextColumn("{task.fields[note]}", markup=False),
        rich.TimeElapsedColumn(),
    )
    with rich.Progress(*columns, console=console(), transient=True, refresh_per_second=8) as bars:
        yield _Bars(bars)


def deferred_progress(shown: contextlib.ExitStack) -> ShowProgress:
    """Progress that appears with the first step, if one comes, and goes when `shown` is left."""
    opened: list[ShowProgress] = []

    def show(phase: str, done: int, total: int | None, note: str = "") -> None:
        if not opened:
            opened.append(shown.enter_context(showing_progress()))
        opened[0](phase, done, total, note)

    return show


def _rich() -> Any:
    try:
        return require("rich.progress", "cli", "showing progress bars")
    except MissingDependency:
        return None


def _of(total: int | None) -> str:
    return "" if total is None else f"/{total}"


class _Bars:
    def __init__(self, bars: Any) -> None:
        self._bars, self._shown = bars, dict[str, Any]()

    def __call__(self, phase: str, done: int, total: int | None, note: str = "") -> None:
        if phase not in self._shown:
            self._shown[phase] = self._bars.add_task(phase, total=total, of="", note="")
        self._bars.update(self._shown[phase], completed=done, total=total, of=_of(total), note=note)
        if total is not None and done >= total:
            self._bars.remove_task(self._shown.pop(phase))


class _Lines:
    def __init__(self) -> None:
        self._last_s = time.monotonic()

    def __call__(self, phase: str, done: int, total: int | None, note: str = "") -> None:
        if time.monotonic() - self._last_s >= _LINE_EVERY_S:
            self._last_s = time.monotonic()
            complain(f"  {phase} {done}{_of(total)}{f', {note}' if note else ''}")
