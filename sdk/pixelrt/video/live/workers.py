"""The threads of a stream, and waiting for their end."""

from __future__ import annotations

import threading
from collections.abc import Callable

from pixelrt.video.live.failing import Failing

_POLL_S = 0.1


class Workers:
    """Threads that end by themselves.

    They are waited for by what they say, not by `Thread.join`: Ctrl-C in the middle of that makes Python take
    a thread for ended that still runs (https://github.com/python/cpython/issues/90882).
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._threads: list[threading.Thread] = []
        self._running: dict[str, int | None] = {}
        """Name and number; None until it has begun."""

    @property
    def started(self) -> bool:
        """Whether there ever was one."""
        return bool(self._threads)

    def start(self, work: Callable[[], None], name: str, failing: Failing) -> None:
        """Start a thread.

        Args:
            work: What it does.
            name: Unlike that of every other one.
            failing: Takes what it raises.
        """
        thread = threading.Thread(target=self._run, args=(work, name, failing), name=name, daemon=True)
        with self._lock:
            self._threads.append(thread)
            self._running[name] = None
        try:
            thread.start()
        except RuntimeError:  # the system has no more threads
            self._end(name)
            raise

    def is_one(self) -> bool:
        """Whether the calling thread is one of these."""
        with self._lock:
            return threading.get_ident() in self._running.values()

    def wait(self, is_patience_over: Callable[[], bool]) -> list[str]:
        """Wait until all have ended.

        Args:
            is_patience_over: Asked now and then; true ends the wait.

        Returns:
            Names of those that still run.
        """
        with self._lock:
            while self._running and not is_patience_over():
                self._changed.wait(_POLL_S)
            left = list(self._running)
        for thread in self._threads:
            if thread.name not in left and thread.is_alive():
                thread.join()
        return left

    def _run(self, work: Callable[[], None], name: str, failing: Failing) -> None:
        with self._lock:
            self._running[name] = threading.get_ident()
        try:
            with failing:
                work()
        finally:
            self._end(name)

    def _end(self, name: str) -> None:
        with self._lock:
            del self._running[name]
            self._changed.notify_all()
