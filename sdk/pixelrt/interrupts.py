"""Signals held back where they would leave something half done."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

_NUMBERS = tuple(map(int, signal.valid_signals()))
_SIGACTION = None if os.name == "nt" else getattr(ctypes.CDLL(None, use_errno=True), "sigaction", None)
_ACTION_BYTES = 256
"""More than a `struct sigaction` has anywhere; nobody looks into it here."""
_MOST_HELD = 2
"""Signals of a kind that wait; who sends one more means it now."""


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """A short block that no exception of a signal handler cuts in two: handlers run after it.

    Ctrl-C in the middle of `Thread.start` leaves a thread that nobody knows of; in the middle of an import it
    may be swallowed, look like a library that is missing, or keep all other threads from importing for ever.
    The third signal of a kind does come in the middle: the block might never end. Handlers that C libraries
    installed stay where they are. Without `sigaction` (Windows), nothing is held back.
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


def started(thread: threading.Thread) -> threading.Thread:
    """The thread, which runs now, and which its owner knows of by then or knows nothing of at all.

    Ctrl-C meanwhile comes afterwards. Where it must not come before the owner has noted the thread either,
    the owner wraps both in `uninterrupted`.
    """
    with uninterrupted():
        thread.start()
    return thread


@contextlib.contextmanager
def running(thread: threading.Thread, end: Callable[[], object]) -> Iterator[None]:
    """Run a thread during a block.

    Args:
        thread: Not started yet; waited for in the end.
        end: Tells it to end.
    """
    with contextlib.ExitStack() as ending:
        with uninterrupted():
            thread.start()
            ending.callback(thread.join)
            ending.callback(end)
        yield


class _Held:
    """Signals that are held back."""

    def __init__(self) -> None:
        self._handlers: dict[int, Callable[[int, FrameType | None], Any]] = {}
        self._came: dict[int, FrameType | None] = {}
        self._counts: Counter[int] = Counter()
        self._over = False

    def begin(self) -> None:
        """Hold back every signal that the program handles, and that no block around this one holds."""
        if _SIGACTION is None:
            return
        for number in _NUMBERS:
            handler = signal.getsignal(number)
            if callable(handler) and not _is_holding(handler):
                self._handlers[number] = handler
                _handle(number, self._hold)

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

    @property
    def over(self) -> bool:
        """Whether it holds nothing back any more."""
        return self._over

    def _give_back(self) -> None:
        for number, handler in self._handlers.items():
            if signal.getsignal(number) == self._hold:  # else the block has set its own
                _handle(number, handler)

    def _call_all(self) -> None:
        if self._came:
            number, frame = self._came.popitem()
            try:
                self._handlers[number](number, frame)
            finally:
                self._call_all()

    def _hold(self, number: int, frame: FrameType | None) -> None:
        self._counts[number] += 1
        if self._over or self._counts[number] > _MOST_HELD:
            self._came.pop(number, None)
            self._handlers[number](number, frame)
        else:
            self._came[number] = frame


def _is_holding(handler: object) -> bool:
    holder = getattr(handler, "__self__", None)
    return isinstance(holder, _Held) and not holder.over


def _handle(number: int, handler: Callable[[int, FrameType | None], Any]) -> None:
    """Set Python's handler and nothing else.

    `signal.signal` by itself also puts Python's own action in the place of one that a C library or
    `signal.siginterrupt` has set, and that leads to Python's handler, too.
    """
    action = ctypes.create_string_buffer(_ACTION_BYTES)
    _sigaction(number, None, action)
    try:
        signal.signal(number, handler)
    finally:
        _sigaction(number, action, None)


def _sigaction(number: int, new: ctypes.Array[ctypes.c_char] | None, old: Any) -> None:
    assert _SIGACTION is not None
    if _SIGACTION(number, new, old):
        code = ctypes.get_errno()
        raise OSError(code, f"sigaction of signal {number}: {os.strerror(code)}")
