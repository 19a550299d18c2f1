"""How often a lost child is replaced by itself."""

from __future__ import annotations

import collections
import time

from pixelrt.isolation.options import IsolationOptions


class Restarts:
    """Remembers restarts, of which options allow so many within a time."""

    def __init__(self) -> None:
        self._times_s: collections.deque[float] = collections.deque()

    def left(self, options: IsolationOptions) -> int:
        """How many may follow by themselves now."""
        since_s = time.monotonic() - options.restart_window_s
        while self._times_s and self._times_s[0] < since_s:
            self._times_s.popleft()
        return options.restarts - len(self._times_s)

    def count(self, options: IsolationOptions) -> str:
        """Count one that is made now.

        Returns:
            `restart 1 of at most 3 within 60 s`.
        """
        self._times_s.append(time.monotonic())
        return _words(len(self._times_s), options)

    def forget(self) -> None:
        """Count those before no more."""
        self._times_s.clear()

    def outlook(self, options: IsolationOptions) -> str:
        """What happens next without a child, and what the user can do."""
        allowed = options.restarts
        if left := self.left(options):
            return f"the next call starts a fresh child ({_words(allowed - left + 1, options)})"
        if not allowed:
            return "restart() starts a fresh child; with restarts=3, say, the next call would"
        return (
            f"the child was replaced {allowed} times within {options.restart_window_s:g} s and is not again "
            "by itself: find what ends it, then call restart(), or allow more with restarts=..."
        )


def _words(number: int, options: IsolationOptions) -> str:
    return f"restart {number} of at most {options.restarts} within {options.restart_window_s:g} s"
