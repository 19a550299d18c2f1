"""Free memory goes back to the system."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from pixelrt.video.live import heap
from pixelrt.video.live.heap import HeapTrim

HOLES = """
import re, time
from pathlib import Path
from pixelrt.video.live.heap import HeapTrim

def resident_mb():
    return int(re.search(r"VmRSS:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1e3

blocks = [bytearray(60_000) for _ in range(2000)]
blocks = blocks[::100]
before_mb = resident_mb()
HeapTrim().look(time.monotonic() + 10)
print(before_mb - resident_mb())
"""


@pytest.mark.skipif(heap._trim() is None, reason="the C library is not GNU's")
def test_free_memory_between_used_one_goes_back_to_the_system() -> None:
    done = subprocess.run([sys.executable, "-c", HOLES], capture_output=True, text=True, check=True)
    assert float(done.stdout) > 90, "of 120 MB"


def test_it_is_done_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[int] = []
    monkeypatch.setattr(heap, "_trim", lambda: done.append)
    trim, now_s = HeapTrim(), time.monotonic()
    for later_s in (0.0, 4.0, 6.0, 10.0, 12.0, 16.0):
        trim.look(now_s + later_s)
    assert len(done) == 2


def test_with_another_c_library_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heap, "_trim", lambda: None)
    HeapTrim().look(time.monotonic() + 10)
