"""Memory that is free and that the C library keeps."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable
from typing import Any

_PERIOD_S = 5.0


def _trim() -> Callable[[int], Any] | None:
    """`malloc_trim` (3) of the GNU C library; None where there is another one."""
    return None if os.name == "nt" else getattr(ctypes.CDLL(None), "malloc_trim", None)


class HeapTrim:
    """Gives free memory back to the system now and then.

    Frames come from heaps that belong to threads, and each heap stays as large as it ever was: a moment in
    which some more frames than usual were on their way, or an encoder's new threads, would be seen in the
    resident set until the program ends. On 50 MB of heaps, trimming took 1 ms.
    """

    def __init__(self) -> None:
        self._trim = _trim()
        self._next_s = time.monotonic() + _PERIOD_S  # what loading left may be of use just now

    def look(self, now_s: float) -> None:
        """Do it, when it is time to.

        Args:
            now_s: `time.monotonic`.
        """
        if self._trim is not None and now_s >= self._next_s:
            self._next_s = now_s + _PERIOD_S
            self._trim(0)
