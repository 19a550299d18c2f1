"""Changes that are made in the middle of waiting for them, and of telling of them."""

from __future__ import annotations

import contextlib
import gc
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from pixelrt.video.waiting import Change, Changes

FOR_EVER_S = 5.0


class Cycle:
    """Garbage that makes a change when it is collected."""

    def __init__(self, end: Callable[[], None]) -> None:
        self._end, self._itself = end, self

    def __del__(self) -> None:
        self._end()


@contextlib.contextmanager
def collected_at_once() -> Iterator[None]:
    """The garbage collector comes as often as it can."""
    before = gc.get_threshold()
    gc.set_threshold(1, 1, 1)
    try:
        yield
    finally:
        gc.set_threshold(*before)


class Door:
    """What is closed; `before` is called with the lock held, before a wait and before a change."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.changes = Changes(self.lock)
        self.is_closed = False
        self.before: list[Callable[[], object]] = []

    def close(self) -> None:
        with self.lock:
            self.is_closed = True
            self._come_before()
            self.changes.notify_all()

    def wait(self, timeout_s: float | None = None) -> None:
        while True:
            with self.lock:
                seen = self.changes.count
                if self.is_closed:
                    return
                self._come_before()
                change = self.changes.register(seen)
            change.wait(timeout_s)

    def _come_before(self) -> None:
        while self.before:
            self.before.pop()()


def test_the_garbage_collector_may_close_what_is_about_to_be_waited_for() -> None:
    door = Door()
    door.before.append(lambda: Cycle(door.close))
    began_s = time.monotonic()
    with collected_at_once():
        door.wait(FOR_EVER_S)
    assert time.monotonic() - began_s < FOR_EVER_S


@pytest.mark.parametrize("problem", [None, KeyboardInterrupt])
def test_a_change_in_the_middle_of_another_wakes_everybody(
    monkeypatch: pytest.MonkeyPatch, problem: type[BaseException] | None
) -> None:
    """Also where the first is cut off by Ctrl-C."""
    changes = Changes(threading.RLock())
    awaited = [changes.register(changes.count) for _ in range(3)]
    told: list[Change] = []
    original = Change.set

    def interrupted(change: Change) -> None:
        told.append(change)
        if len(told) == 2:
            for other in awaited:  # what `notify_all` does, of a finalizer that comes at its very beginning
                original(other)
            changes.notify_all()
            if problem is not None:
                raise problem
        original(change)

    monkeypatch.setattr(Change, "set", interrupted)
    with contextlib.nullcontext() if problem is None else pytest.raises(problem):
        changes.notify_all()
    for change in awaited:
        began_s = time.monotonic()
        change.wait(FOR_EVER_S)
        assert time.monotonic() - began_s < FOR_EVER_S
