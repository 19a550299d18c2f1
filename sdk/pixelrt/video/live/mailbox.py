"""Where items wait between two threads: bounded, fair over their senders, and nothing is lost uncounted."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")

STOPPED = "stopped"
"""Why an item was dropped that was on its way when everything ended."""


def _nothing() -> None:
    """Do nothing."""


class Mailbox(Generic[Item]):
    """Items of several senders, each in order; the sender that was served longest ago is served first.

    Every item that was put in is taken once, or dropped once. Locks are reentrant, so that a stream that is
    freed by the garbage collector can be closed wherever that happens.

    Args:
        senders: How many.
        places: Of each sender.
        newest: Where all places are taken, drop the oldest item of that sender; else the sender waits.
        drop: Told of each item that will not be taken, and why; must not use the mailbox.
        replaced: The reason where a newer item took the place.
    """

    def __init__(
        self,
        senders: int,
        *,
        places: int,
        newest: bool,
        drop: Callable[[Item, str], None],
        replaced: str,
    ) -> None:
        self._places, self._newest, self._drop, self._replaced = places, newest, drop, replaced
        # `with` uses the lock itself: Ctrl-C cannot come between taking it and entering the block
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._waiting: list[deque[Item]] = [deque() for _ in range(senders)]
        self._served = [0] * senders
        self._turns = itertools.count(1)
        self._open = set(range(senders))
        self._on_change: Callable[[], None] = _nothing

    def put(self, sender: int, item: Item) -> None:
        """Leave an item; where the places are taken and it is not to replace one, wait for a place."""
        waiting = self._waiting[sender]
        with self._lock:
            while not self._newest and len(waiting) >= self._places and sender in self._open:
                self._changed.wait()
            if sender not in self._open:
                self._drop(item, STOPPED)
                return
            if len(waiting) >= self._places:
                self._drop(waiting.popleft(), self._replaced)
            waiting.append(item)
            self._notify()

    def take(self, timeout_s: float | None = None, most: int = 1) -> list[Item]:
        """Take the next item, or several, each of another sender.

        Args:
            timeout_s: How long to wait for the first; None until there is one or there will be none.
            most: How many.

        Returns:
            Nothing if none came in time, or none will come any more (`finished`).
        """
        with self._lock:
            if timeout_s is None:
                while not (self._any() or self.finished):
                    self._changed.wait()
            elif timeout_s > 0 and not (self._any() or self.finished):
                self._changed.wait(timeout_s)
            senders = [sender for sender, waiting in enumerate(self._waiting) if waiting]
            senders.sort(key=self._served.__getitem__)
            return [self._take_of(sender) for sender in senders[:most]]

    def finish(self, sender: int) -> None:
        """No more items come from this sender; those that wait can be taken."""
        with self._lock:
            self._open.discard(sender)
            self._notify()

    def finish_all(self) -> None:
        """No more items come; those that wait can be taken."""
        with self._lock:
            self._open.clear()
            self._notify()

    def close(self) -> None:
        """No more items come, and those that wait are dropped."""
        with self._lock:
            self._open.clear()
            for waiting in self._waiting:
                while waiting:
                    self._drop(waiting.popleft(), STOPPED)
            self._notify()

    @property
    def finished(self) -> bool:
        """Whether there is nothing to take and never will be."""
        with self._lock:
            return not self._open and not self._any()

    def listen(self, on_change: Callable[[], None]) -> None:
        """Have a function called, and no longer the one before, when `take` may have something to say.

        It is called with the lock held, and must return at once.
        """
        with self._lock:
            self._on_change = on_change

    def depth(self, sender: int) -> int:
        """How many items of a sender wait."""
        return len(self._waiting[sender])

    def _any(self) -> bool:
        return any(self._waiting)

    def _take_of(self, sender: int) -> Item:
        self._served[sender] = next(self._turns)
        item = self._waiting[sender].popleft()
        if not self._newest:
            self._changed.notify_all()
        return item

    def _notify(self) -> None:
        self._changed.notify_all()
        self._on_change()
