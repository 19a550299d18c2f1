"""Where items wait between two threads: bounded, fair over their senders, and nothing is lost uncounted."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from pixelrt.video.waiting import Changes, nothing

Item = TypeVar("Item")

STOPPED = "stopped"
"""Why an item was dropped that was on its way when everything ended."""


@dataclass(frozen=True, slots=True)
class Room:
    """Where the items of one sender wait."""

    places: int
    newest: bool
    """Where all places are taken, the oldest item is dropped; else the sender waits."""


def _nothing_of(item: object) -> None:
    """Note nothing."""


def _any_sender(_: int) -> bool:
    return True


class Mailbox(Generic[Item]):
    """Items of several senders, each in order; the sender that was served longest ago is served first.

    Every item that was put in is taken once, or dropped once. Locks are reentrant: a signal handler, or the
    garbage collector, may close it in the middle of anything that it does.

    Args:
        rooms: Of each sender.
        drop: Told of each item that will not be taken, and why; must not use the mailbox.
        replaced: The reason where a newer item took the place.
    """

    def __init__(self, rooms: Sequence[Room], *, drop: Callable[[Item, str], None], replaced: str) -> None:
        self._rooms, self._drop, self._replaced = tuple(rooms), drop, replaced
        # `with` uses the lock itself: Ctrl-C cannot come between taking it and entering the block
        self._lock = threading.RLock()
        self._changes = Changes(self._lock)
        self._waiting: list[deque[Item]] = [deque() for _ in rooms]
        self._served = [0] * len(rooms)
        self._turns = itertools.count(1)
        self._open = set(range(len(rooms)))
        self._listeners: list[Callable[[], None]] = []
        self.on_room: Callable[[], None] = nothing
        """Called, with the lock held, when a sender that waits for places may have one."""

    def put(self, sender: int, item: Item) -> None:
        """Leave an item; where the places are taken and it is not to replace one, wait for a place."""
        while True:
            with self._lock:
                seen = self._changes.count
                if self.has_room(sender):
                    self._add(sender, item)
                    return
                change = self._changes.register(seen)
            change.wait()

    def wait_for_room(self, sender: int) -> None:
        """Wait until `put` would not."""
        while True:
            with self._lock:
                seen = self._changes.count
                if self.has_room(sender):
                    return
                change = self._changes.register(seen)
            change.wait()

    def take(
        self,
        timeout_s: float | None = None,
        most: int = 1,
        may_go: Callable[[int], bool] = _any_sender,
        noted: Callable[[Item], object] = _nothing_of,
    ) -> list[Item]:
        """Take the next item, or several, each of another sender.

        Args:
            timeout_s: How long to wait for the first; None until there is one or there will be none.
            most: How many.
            may_go: Whether items of a sender may be taken now; must use no lock. Where that has changed,
                `look_again` says so.
            noted: Called with each item that is taken, with the lock held.

        Returns:
            Nothing if none came in time, or none will come any more (`finished`).
        """
        while True:
            with self._lock:
                seen = self._changes.count
                ready = self._ready(may_go)
                if ready or self.finished or timeout_s == 0:
                    taken = [item for sender in ready[:most] for item in self._taken_of(sender)]
                    for item in taken:
                        noted(item)
                    return taken
                change = self._changes.register(seen)
            change.wait(timeout_s)
            timeout_s = None if timeout_s is None else 0

    def look_again(self) -> None:
        """Have whoever waits in `take` ask `may_go` again."""
        with self._lock:
            self._changes.notify_all()

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
            self.on_room()

    @property
    def finished(self) -> bool:
        """Whether there is nothing to take and never will be."""
        with self._lock:
            return not self._open and not any(self._waiting)

    @property
    def keeps_newest(self) -> bool:
        """Whether items of any sender are replaced by newer ones."""
        return any(room.newest for room in self._rooms)

    def listen(self, on_change: Callable[[], None]) -> None:
        """Have a function called when `take` may have something to say, until `unlisten`.

        It is called with the lock held, and must return at once.
        """
        with self._lock:
            self._listeners = [*self._listeners, on_change]

    def unlisten(self, on_change: Callable[[], None]) -> None:
        """Have it called no more."""
        with self._lock:
            self._listeners = [each for each in self._listeners if each is not on_change]

    def has_room(self, sender: int, coming: int = 0) -> bool:
        """Whether `put` would not wait, after as many items as are coming already. Uses no lock."""
        room, waiting = self._rooms[sender], self._waiting[sender]
        return room.newest or len(waiting) + coming < room.places or sender not in self._open

    def depth(self, sender: int) -> int:
        """How many items of a sender wait."""
        return len(self._waiting[sender])

    def _ready(self, may_go: Callable[[int], bool]) -> list[int]:
        """Senders whose items can be taken, the one that was served longest ago first."""
        senders = [sender for sender, waiting in enumerate(self._waiting) if waiting and may_go(sender)]
        return sorted(senders, key=self._served.__getitem__)

    def _add(self, sender: int, item: Item) -> None:
        """Have an item wait, for which there is room."""
        room, waiting = self._rooms[sender], self._waiting[sender]
        if sender not in self._open:
            self._drop(item, STOPPED)
            return
        if len(waiting) >= room.places:
            self._drop(waiting.popleft(), self._replaced)
        waiting.append(item)
        self._notify()

    def _taken_of(self, sender: int) -> list[Item]:
        """Its next item, which a signal handler that closes the stream may just have dropped."""
        try:
            item = self._waiting[sender].popleft()
        except IndexError:
            return []
        self._served[sender] = next(self._turns)
        if not self._rooms[sender].newest:
            self._changes.notify_all()
            self.on_room()
        return [item]

    def _notify(self) -> None:
        self._changes.notify_all()
        for on_change in self._listeners:
            on_change()
