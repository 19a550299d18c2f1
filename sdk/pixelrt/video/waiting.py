"""Waiting for what another thread changes, in a way that Ctrl-C may end at any moment."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager
from typing import Any, TypeAlias

AnyLock: TypeAlias = AbstractContextManager[Any]


class Changes:
    """What `threading.Condition` is for, waited for without the lock that guards what changes.

    A condition takes its lock again after the wait. Ctrl-C at that moment leaves a block that thinks it has
    the lock, and that fails with a RuntimeError about it instead of the KeyboardInterrupt.

    Args:
        lock: Guards what changes. A reentrant one lets signal handlers make changes, too.
    """

    def __init__(self, lock: AnyLock) -> None:
        self._lock = lock
        self._awaited: list[Change] = []

    def coming(self) -> Change:
        """The next change. With the lock held; `Change.wait` comes after it was given back."""
        change = Change(self)
        self._awaited.append(change)
        return change

    def tell(self) -> None:
        """Say that there was a change. With the lock held."""
        awaited, self._awaited = self._awaited, []
        for change in awaited:
            change.come()

    def forget(self, change: Change) -> None:
        """It is waited for no more."""
        with self._lock:
            if change in self._awaited:
                self._awaited.remove(change)


class Change:
    """A change to come, for one thread to wait for."""

    __slots__ = ("_changes", "_pending")

    def __init__(self, changes: Changes) -> None:
        self._changes = changes
        self._pending = threading.Lock()
        self._pending.acquire()

    def come(self) -> None:
        """It has come. Once."""
        self._pending.release()

    def wait(self, timeout_s: float | None = None) -> None:
        """Wait for it, for so long at most."""
        if not self._pending.acquire(timeout=-1 if timeout_s is None else timeout_s):
            self._changes.forget(self)
