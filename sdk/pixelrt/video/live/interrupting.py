"""Signals: held back where they would leave something half done; and whether one came in the middle of it."""

from __future__ import annotations

import contextlib
import inspect
import signal
import threading
from collections.abc import Callable, Iterator
from itertools import dropwhile
from types import FrameType
from typing import Any

_OWN = "pixelrt.video.live."
_WITHOUT_LOCKS = ("pixelrt.video.live.streaming",)
_WITH_LOCKS = ("threading", "logging", "pixelrt.video.artist")


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """A short block that no exception of a signal handler cuts in two: handlers run after it.

    Ctrl-C in the middle of `Thread.start` leaves a thread that nobody knows of, for one.
    """
    if not _is_main_thread():  # handlers run in the main thread alone
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
        for number in signal.valid_signals():
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


def interrupts_a_lock() -> bool:
    """Whether a signal handler calls that came in the middle of what may hold a lock.

    Other threads may need that lock in order to end, and it is freed only when the handler has returned. The
    garbage collector can come as inconveniently.
    """
    if not _is_main_thread():
        return False
    below = dropwhile(lambda name: name.startswith(_OWN), _modules(inspect.currentframe()))
    return any(map(_may_hold_a_lock, below))


def _is_main_thread() -> bool:
    return threading.get_ident() == threading.main_thread().ident


def _modules(frame: FrameType | None) -> list[str]:
    """Of the functions that run in this thread, the latest first."""
    modules = []
    while frame is not None:
        modules.append(frame.f_globals.get("__name__", ""))
        frame = frame.f_back
    return modules


def _may_hold_a_lock(module: str) -> bool:
    return module in _WITH_LOCKS or (module.startswith(_OWN) and module not in _WITHOUT_LOCKS)
