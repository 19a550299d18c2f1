"""Whatever a stream started is gone when its test is over, and every frame is accounted for."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterator

import psutil
import pytest
from live import every_frame_known

from pixelrt.video.live.ledger import Account


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    process = psutil.Process()
    threads, files = set(threading.enumerate()), process.num_fds()
    yield
    gc.collect()
    deadline_s = time.monotonic() + 5
    while time.monotonic() < deadline_s and (_new(threads) or process.num_fds() > files):
        time.sleep(0.01)
    assert not _new(threads)
    assert process.num_fds() <= files


@pytest.fixture(autouse=True)
def unknown_frames() -> Iterator[list[Account]]:
    """Accounts of streams that ended with frames of which nobody knows; empty when the test is over."""
    with every_frame_known() as unknown:
        yield unknown


def _new(before: set[threading.Thread]) -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread not in before]
