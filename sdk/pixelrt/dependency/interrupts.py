"""Signals held back where they would leave something half done."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

_NUMBERS = tuple(map(int, signal.valid_signals()))


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """A short block that no exception of a signal handler cuts in two: handlers run after it.

    Ctrl-C in the middle of `Thread.start` leaves a thread that nobody knows of; in the middle of an import it
    may be swallowed, look like a library that is missing, or keep all other threads from importing for ever.
    """
    if threading.get_ident() != threading.main_thread().ident:  # handlers run in the main thread alone
        yield
        return
    held = _Held()
    try:
        held.begin()
        yield
    finally:
        held.end()


class _Held:
    """Signals that are held back."""

    def __init__(self) -> None:
        self._handlers: dict[int, Callable[[int, FrameType | None], Any]] = {}
        self._came: dict[int, FrameType | None] = {}
        self._over = False

    def begin(self) -> None:
        """Hold back every signal that the program handles."""
        for number in _NUMBERS:
            handler = signal.getsignal(number)
            if callable(handler):
                self._handlers[number] = handler
                signal.signal(number, self._hold)

    def end(self) -> None:
        """Give the handlers back, and call those whose signals came."""
        self._over = True
        try:
            self._give_back()
        except BaseException:  # of a handler that was given back already
            self._give_back()
            raise
        finally:
            self._call_all()

    def _give_back(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _call_all(self) -> None:
        if self._came:
            number, frame = self._came.popitem()
            try:
                self._handlers[number](number, frame)
            finally:
                self._call_all()

    def _hold(self, number: int, frame: FrameType | None) -> None:
        if self._over:
            self._handlers[number](number, frame)
        else:
            self._came[number] = frame
