"""Waiting for what another thread changes, in a way that Ctrl-C may end at any moment."""

from __future__ import annotations

import contextlib
import queue
from contextlib import AbstractContextManager
from typing import Any, TypeAlias

AnyLock: TypeAlias = AbstractContextManager[Any]


def nothing() -> None:
    """Do nothing: what is called back where nobody wants to know."""


class Flag:
    """What `threading.Event` is for, set also in the middle of a wait for it, by the thread that waits.

    `Event.set` needs a lock that `Event.wait` holds at times: where the garbage collector calls a finalizer
    there, or a signal its handler, the thread would wait for itself.
    """

    __slots__ = ("_is_set", "_sets")

    def __init__(self) -> None:
        self._is_set = False
        self._sets: queue.SimpleQueue[None] = queue.SimpleQueue()  # `put` is reentrant

    def is_set(self) -> bool:
        """Whether it is; that never changes back."""
        return self._is_set

    def set(self) -> None:
        """Set it. Safe to call twice, and from anywhere."""
        self._is_set = True
        self._sets.put(None)

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until it is set, for so long at most (seconds, 0 or more).

        Returns:
            Whether it is set.
        """
        if not self._is_set:
            with contextlib.suppress(queue.Empty):
                self._sets.get(timeout=timeout_s)
                self._sets.put(None)  # for other threads that wait
        return self._is_set


class Changes:
    """What `threading.Condition` is for, waited for without the lock that guards what changes.

    A condition takes its lock again after the wait. Ctrl-C at that moment leaves a block that thinks it has
    the lock, and that fails with a RuntimeError about it instead of the KeyboardInterrupt.

        while True:
            with lock:
                seen = changes.count
                if ...:
                    return
                change = changes.register(seen)
            change.wait()

    A signal handler, or the garbage collector, may make a change in the middle of each of these lines.

    Args:
        lock: Guards what changes. A reentrant one lets signal handlers make changes, too.
    """

    def __init__(self, lock: AnyLock) -> None:
        self._lock = lock
        self._awaited: list[Change] = []
        self.count = 0
        """Grows with every change."""

    def register(self, seen: int) -> Change:
        """The next change. With the lock held; `Change.wait` comes after it was given back.

        Args:
            seen: `count` before the caller looked whether it must wait: a change since then is the next one.
        """
        change = Change(self)
        self._awaited.append(change)
        if self.count != seen:
            change.set()
        return change

    def notify_all(self) -> None:
        """Say that there was a change. With the lock held."""
        self.count += 1
        for change in self._awaited:
            change.set()
        self._awaited.clear()  # none was added meanwhile: only this thread could, and not without waiting

    def forget(self, change: Change) -> None:
        """It is waited for no more."""
        with self._lock:
            if change in self._awaited:
                self._awaited.remove(change)


class Change:
    """A change to come, for one thread to wait for."""

    __slots__ = ("_changes", "_sets")

    def __init__(self, changes: Changes) -> None:
        self._changes = changes
        self._sets: queue.SimpleQueue[None] = queue.SimpleQueue()  # `put` is reentrant, unlike `Event.set`

    def set(self) -> None:
        """It has come. Safe to call twice."""
        self._sets.put(None)

    def wait(self, timeout_s: float | None = None) -> None:
        """Wait for it, for so long at most."""
        try:
            self._sets.get(timeout=timeout_s)
        except queue.Empty:
            self._changes.forget(self)
