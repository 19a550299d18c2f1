"""The threads of a stream, and waiting for their end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from pixelrt.video.live.failing import Failing
from pixelrt.video.waiting import Changes, nothing

_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Job:
    """What a thread does."""

    name: str
    """Unlike that of every other one."""
    run: Callable[[], None]
    discard: Callable[[], None] = nothing
    """Gives back what it holds, where it never runs."""


class Workers:
    """Threads that end by themselves.

    They are waited for by what they say, not by `Thread.join`: Ctrl-C in the middle of that makes Python take
    a thread for ended that still runs (https://github.com/python/cpython/issues/90882).
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._changes = Changes(self._lock)
        self._threads: list[threading.Thread] = []
        self._running: dict[str, int | None] = {}
        """Name and number; None until it has begun."""
        self._begun: set[str] = set()

    @property
    def started(self) -> bool:
        """Whether there ever was one."""
        return bool(self._threads)

    def start(self, job: Job, failing: Failing) -> None:
        """Start a thread; no signal may cut this in two (`uninterrupted`).

        Args:
            job: What it does.
            failing: Takes what it raises.
        """
        thread = threading.Thread(target=self._run, args=(job, failing), name=job.name, daemon=True)
        with self._lock:
            self._threads.append(thread)
            self._running[job.name] = None
        try:
            thread.start()
        except BaseException:  # the system has no more threads
            self._call_off(job)
            raise

    def has_begun(self, job: Job) -> bool:
        """Whether a thread does or did it; after `wait` that changes no more."""
        with self._lock:
            return job.name in self._begun

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
        while not is_patience_over():
            with self._lock:
                seen = self._changes.count
                if not self._running:
                    break
                change = self._changes.register(seen)
            change.wait(_POLL_S)
        with self._lock:
            left = list(self._running)
        for thread in self._threads:
            if thread.name not in left and thread.is_alive():
                thread.join()
        return left

    def _call_off(self, job: Job) -> None:
        """Have it not done, if it has not begun."""
        with self._lock:
            if job.name not in self._begun:
                self._end(job.name)

    def _run(self, job: Job, failing: Failing) -> None:
        with self._lock:
            if job.name not in self._running:
                return  # it was called off
            self._running[job.name] = threading.get_ident()
            self._begun.add(job.name)
        try:
            with failing:
                job.run()
        finally:
            self._end(job.name)

    def _end(self, name: str) -> None:
        with self._lock:
            self._running.pop(name, None)
            self._changes.notify_all()
