"""Ctrl-C, SIGTERM and SIGHUP end long work after the current piece, so that what was written is whole."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from types import FrameType

INTERRUPTED_LOAD = "interrupted: it ends when the network is loaded; a second Ctrl-C ends it at once"
"""For `Stop.answering`."""
_EXIT_BASE = 128
_OUTPUT, _ERRORS = 1, 2


class Interrupted(KeyboardInterrupt):
    """A command was ended at once.

    Args:
        exit_code: What it exits with.
    """

    def __init__(self, exit_code: int) -> None:
        super().__init__()
        self.exit_code = exit_code


class Stop:
    """Whether a signal asked the run to end."""

    def __init__(self) -> None:
        self.signal = 0
        self._at_once = False
        self._answer = ""
        self._terminals = [output for output in (_OUTPUT, _ERRORS) if os.isatty(output)]

    def __call__(self) -> bool:
        """Whether it did."""
        return self.signal != 0

    @property
    def exit_code(self) -> int:
        """130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP, else 0."""
        return _exit_code(self.signal) if self.signal else 0

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """A block that takes long, and writes nothing: the first signal ends it, with KeyboardInterrupt."""
        self._at_once = True
        try:
            if self.signal:
                raise KeyboardInterrupt
            yield
        finally:
            self._at_once = False

    @contextlib.contextmanager
    def answering(self, text: str) -> Iterator[None]:
        """A block that takes long and is not ended by the first signal: who sent it is told so."""
        self._answer = text
        try:
            if self.signal:
                self._tell()
            yield
        finally:
            self._answer = ""

    def handle(self, number: int, _frame: FrameType | None) -> None:
        """The first signal ends the run after the current frame, the second one at once.

        SIGHUP is never a second one: of a window that closes, the shell and the kernel tell one after the
        other.
        """
        is_first, self.signal = self.signal == 0, self.signal or number
        if number == signal.SIGHUP:
            self._leave_terminals()
        if is_first and self._answer:
            self._tell()
        if self._at_once if is_first else number != signal.SIGHUP:
            raise KeyboardInterrupt

    def _tell(self) -> None:
        """Not through `sys.stderr`, which a handler that comes in the middle of its `write` must not use."""
        with contextlib.suppress(OSError):
            os.write(_ERRORS, f"{self._answer}\n".encode())

    def _leave_terminals(self) -> None:
        """What is said to a terminal that has gone is lost from now on, instead of being an error."""
        for output in self._terminals:
            if not os.isatty(output):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, output)
                os.close(nowhere)


@contextlib.contextmanager
def stopping() -> Iterator[Stop]:
    """Take Ctrl-C, SIGTERM and SIGHUP as the wish to end; how they were taken is restored afterwards.

    SIGHUP stays ignored where it is, as under `nohup`.

    Raises:
        Interrupted: If the block was ended by KeyboardInterrupt.
    """
    stop = Stop()
    before = {number: signal.signal(number, stop.handle) for number in _signals()}
    try:
        yield stop
    except (KeyboardInterrupt, RuntimeError) as problem:
        cause = problem.__cause__ if isinstance(problem, RuntimeError) else problem
        if isinstance(cause, KeyboardInterrupt):  # wrapped in __set_name__, before Python 3.12
            raise Interrupted(stop.exit_code or _exit_code(signal.SIGINT)) from problem
        raise
    finally:
        # Python ends by SIGINT, whatever the exit code, where that came in code like this, and not after it
        exec("")
        for number, handler in before.items():
            signal.signal(number, handler)


def _exit_code(number: int) -> int:
    return _EXIT_BASE + number


def _signals() -> tuple[signal.Signals, ...]:
    asked = (signal.SIGINT, signal.SIGTERM)
    return asked if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else (*asked, signal.SIGHUP)
