"""Whether it is safe to wait for other threads, here."""

from __future__ import annotations

import inspect
import threading
from itertools import dropwhile
from types import FrameType

_OWN = "pixelrt.video.live."
_WITHOUT_LOCKS = ("pixelrt.video.live.streaming",)
_WITH_LOCKS = (
    "threading",
    "logging",
    "pixelrt.video.artist",
    "pixelrt.video.sources.push",
    "pixelrt.video.sources.network.packets",
)


def interrupts_a_lock() -> bool:
    """Whether a signal handler calls that came in the middle of what may hold a lock.

    Other threads may need that lock in order to end, and it is freed only when the handler has returned. The
    garbage collector can come as inconveniently.
    """
    if threading.get_ident() != threading.main_thread().ident:
        return False
    below = dropwhile(lambda name: name.startswith(_OWN), _modules(inspect.currentframe()))
    return any(map(_may_hold_a_lock, below))


def _modules(frame: FrameType | None) -> list[str]:
    """Of the functions that run in this thread, the latest first."""
    modules = []
    while frame is not None:
        modules.append(frame.f_globals.get("__name__", ""))
        frame = frame.f_back
    return modules


def _may_hold_a_lock(module: str) -> bool:
    return module in _WITH_LOCKS or (module.startswith(_OWN) and module not in _WITHOUT_LOCKS)
