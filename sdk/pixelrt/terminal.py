"""The terminal: lines of results on standard output, progress and warnings on standard error."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import select
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TextIO

from pixelrt.dependency import require
from pixelrt.errors import SinkError

if TYPE_CHECKING:
    from rich.console import Console

_STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33"}


@functools.cache
def console() -> Console:
    """Standard error with rich's progress bars and tables, so that standard output stays machine-readable.

    Raises:
        MissingDependency: If rich is not installed; plain text works without it.
    """
    made: Console = require("rich.console", "cli", "showing progress bars and tables").Console(stderr=True)
    return made


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a standard stream is one; it is None where it was closed from the start."""
    return stream is not None and stream.isatty()


def say(text: str = "") -> None:
    """Write a line of the result to standard output.

    Raises:
        SinkError: If it cannot be written.
    """
    with writing_output():
        sys.stdout.write(f"{text}\n")


def say_at_once(text: str) -> None:
    """Write to standard output, behind what was written before.

    Where nobody reads, the thread that calls this waits, and no other one.

    Args:
        text: With its line feeds.

    Raises:
        BrokenPipeError: If whoever read it has gone.
        OSError: If it cannot be written otherwise.
        ValueError: If standard output is closed.
    """
    if sys.stdout is None:
        raise ValueError("it is closed")
    _write_at_once(sys.stdout, text)


def _write_at_once(stream: TextIO, text: str) -> None:
    """Write past Python's buffer, whose lock is held while a reader is waited for, signals included."""
    stream.flush()
    file = _descriptor(stream)
    if file is None:
        stream.write(text)
        stream.flush()
        return
    left = memoryview(text.encode(stream.encoding, stream.errors or "strict"))
    while left:
        left = left[_some(file, left) :]


def _some(file: int, content: memoryview) -> int:
    """How much could be written."""
    try:
        return os.write(file, content)
    except BlockingIOError:  # another program of the same terminal does not want to wait
        select.select([], [file], [])
        return 0


def _descriptor(stream: TextIO) -> int | None:
    """Where a stream writes to; None for one of a notebook or a test, which shows its text itself."""
    if not isinstance(stream, io.TextIOWrapper):
        return None
    try:
        return stream.fileno()
    except OSError:
        return None


@contextlib.contextmanager
def writing_output() -> Iterator[None]:
    """Explain why standard output cannot be written; that nobody reads it any more is another matter."""
    if sys.stdout is None:
        raise SinkError("standard output cannot be written (it was closed from the start)")
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as problem:
        raise SinkError(
            f"standard output cannot be written ({problem.strerror}); files that were to be written are whole"
        ) from problem


def complain(text: str) -> None:
    """Write a line for the person in front of the screen to standard error, if there is one."""
    if sys.stdout is not None:
        with contextlib.suppress(OSError, ValueError):  # told where it is written
            sys.stdout.flush()
    if sys.stderr is not None:
        _write_at_once(sys.stderr, f"{text}\n")


def styled(text: str, style: str) -> str:
    """Text in `bold`, `dim`, `red`, `green` or `yellow`, where standard output is a terminal with colours."""
    can = is_terminal(sys.stdout)
    wanted = can and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if wanted and text else text


def heading(text: str) -> None:
    """Write a heading with an empty line before it."""
    say()
    say(styled(text, "bold"))


def say_pairs(pairs: Sequence[tuple[str, str]]) -> None:
    """Write names and values as two columns."""
    width = max((len(name) for name, _ in pairs), default=0)
    for name, value in pairs:
        say(f"  {styled(name.ljust(width), 'dim')}  {value}".rstrip())


def say_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Write a table as plain text.

    Args:
        columns: The headings; `>` in front of one aligns its column to the right.
        rows: The cells.
    """
    names = [column.removeprefix(">") for column in columns]
    widths = [max(len(row[i]) for row in (names, *rows)) for i in range(len(names))]

    def line(cells: Sequence[str]) -> str:
        aligned = (
            cell.rjust(width) if column.startswith(">") else cell.ljust(width)
            for column, cell, width in zip(columns, cells, widths, strict=True)
        )
        return "  " + "  ".join(aligned).rstrip()

    say(styled(line(names), "dim"))
    for row in rows:
        say(line(row))


def size_text(num_bytes: int) -> str:
    """A number of bytes for people: `4.1 MB`."""
    amount = float(num_bytes)
    for unit in ("B", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} GB"
