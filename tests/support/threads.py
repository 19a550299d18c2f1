"""Several threads at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_NAP_S = 0.002


def in_threads(count: int, work: Callable[[int], None]) -> None:
    """Run work(0) to work(count - 1) at once, and raise what one of them raised."""
    problems: list[BaseException] = []
    start = threading.Barrier(count)

    def run(index: int) -> None:
        try:
            start.wait()
            work(index)
        except BaseException as problem:  # noqa: BLE001  # raised again below
            problems.append(problem)

    threads = [threading.Thread(target=run, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if problems:
        raise problems[0]


@contextmanager
def hiccups() -> Iterator[list[float]]:
    """By how many seconds a thread that only sleeps woke up late in the block, each time.

    It tells a machine that is busy with something else, or holds this process up, from code that is slow.
    """
    late_s: list[float] = [0.0]
    over = threading.Event()

    def sleep() -> None:
        while not over.is_set():
            began_s = time.monotonic()
            time.sleep(_NAP_S)
            late_s.append(time.monotonic() - began_s - _NAP_S)

    sleeper = threading.Thread(target=sleep, name="hiccups")
    sleeper.start()
    try:
        yield late_s
    finally:
        over.set()
        sleeper.join()
