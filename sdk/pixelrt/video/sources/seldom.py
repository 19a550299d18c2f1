"""What happens often, told seldom."""

from __future__ import annotations

import time

_EVERY_S = 5.0


class Seldom:
    """Says when to tell of what is counted: of the first at once, then every five seconds at most."""

    def __init__(self) -> None:
        self._told, self._told_s = 0, -float("inf")

    def due(self, total: int) -> int:
        """How many are to be told of now.

        Args:
            total: How many there were so far.

        Returns:
            Those since the last time; 0 if there are none, or that was less than five seconds ago.
        """
        new, now_s = total - self._told, time.monotonic()
        if not new or now_s - self._told_s < _EVERY_S:
            return 0
        self._told, self._told_s = total, now_s
        return new
