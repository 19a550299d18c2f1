"""That nothing is left behind."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil


@contextmanager
def nothing_left() -> Iterator[None]:
    """No thread and no file descriptor is left after the block."""
    process = psutil.Process()
    threads, files, before = set(threading.enumerate()), process.num_fds(), descriptors()
    yield
    gc.collect()
    until_s = time.monotonic() + 5  # for what the test's own relays have to end
    while time.monotonic() < until_s:
        if process.num_fds() <= files and set(threading.enumerate()) <= threads:
            break
        time.sleep(0.02)
    left = [thread.name for thread in threading.enumerate() if thread not in threads]
    assert not left, left
    assert process.num_fds() <= files, sorted(descriptors() - before)


def descriptors() -> set[str]:
    """What the file descriptors of this process are."""
    held = set()
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # that of the listing itself
            held.add(f"{entry.name} -> {os.readlink(entry)}")
    return held


def memory_mib() -> float:
    gc.collect()
    return float(psutil.Process().memory_info().rss / 2**20)
