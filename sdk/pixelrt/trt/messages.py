"""What TensorRT logged and nobody has taken yet: its one logger serves every session of the process."""

from __future__ import annotations

import threading
from collections import deque

MOST = 32
"""Messages kept for one thread; older ones make room."""


class Messages:
    """Messages for the threads that caused them.

    TensorRT logs on the thread that called it, or on one of its own while another waits. A thread takes what
    was logged on it, and what was logged on threads that are none of Python's: whose those are nobody knows.
    """

    def __init__(self) -> None:
        self._waiting: dict[threading.Thread | None, deque[str]] = {}
        self._turn = threading.RLock()  # dropping one of TensorRT's objects may log, at any moment

    def append(self, text: str) -> None:
        """Keep a message that was logged on this thread."""
        with self._turn:
            self._forget_ended()
            self._waiting.setdefault(_this_thread(), deque(maxlen=MOST)).append(text)

    def take(self) -> list[str]:
        """The messages for this thread; they are gone afterwards."""
        with self._turn:
            self._forget_ended()
            owners = dict.fromkeys((None, _this_thread()))
            return [text for owner in owners for text in self._waiting.pop(owner, ())]

    def _forget_ended(self) -> None:
        for owner in list(self._waiting):
            if owner is not None and not owner.is_alive():
                self._waiting.pop(owner, None)


def _this_thread() -> threading.Thread | None:
    """This thread if Python started it.

    `logging` gives a stand-in to threads that Python did not start, and so makes them look like Python's.
    """
    ident = threading.get_ident()
    started = (thread for thread in threading.enumerate() if not isinstance(thread, threading._DummyThread))
    return next((thread for thread in started if thread.ident == ident), None)
