"""Ctrl-C, exactly when a test wants it."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

import pytest


def ctrl_c() -> None:
    raise KeyboardInterrupt


class Interrupting:
    """Something at the n-th moment at which Python looks for signals and collects garbage.

    After a call of C, or as a function begins.

    Args:
        moment: From 1.
        what: Comes then; Ctrl-C if nothing else is said.
    """

    def __init__(self, moment: int, what: Callable[[], object] = ctrl_c) -> None:
        self._moment, self._what, self.came = moment, what, False

    def __call__(self, frame: FrameType, event: str, _: object) -> None:
        if event in ("call", "c_return") and not self.came:
            self._moment -= 1
            if not self._moment:
                self.came = True
                self._what()


@contextlib.contextmanager
def handled(handler: Callable[[], None]) -> Iterator[None]:
    """What SIGUSR1 does."""
    before = signal.signal(signal.SIGUSR1, lambda *_: handler())
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, before)


def interrupt_started_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C comes just before a thread runs, and again as soon as it does, before anybody has noted it."""

    def start(self: threading.Thread) -> None:
        press_in_main()
        original(self)
        press_in_main()

    original = threading.Thread.start
    monkeypatch.setattr(threading.Thread, "start", start)


def press_in_main() -> None:
    """Press Ctrl-C if this is the main thread, whose affair it is."""
    if threading.current_thread() is threading.main_thread():
        signal.raise_signal(signal.SIGINT)
