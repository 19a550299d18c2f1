"""When pictures were taken, from times that may be of another clock."""

from __future__ import annotations

import time
from collections import deque

_OLDEST_S = 10.0
"""A picture that is older than this when it is asked for has the time of another clock."""
_WAITING = 8
"""Pictures that may wait while the reader is away; they are older by as long as that takes."""


class Stamps:
    """Times of pictures by `time.monotonic`, never going back.

    Drivers stamp with that clock, and can be set to another one without saying so (uvcvideo:
    `clock=CLOCK_REALTIME`). A time is taken as it is where it can be of our clock: no picture is of the
    future, and none waited for longer than the reader was away, by more than ten seconds.
    """

    def __init__(self) -> None:
        self._asked_s: deque[float] = deque([time.monotonic()], maxlen=_WAITING)
        self._last_s = -float("inf")

    def asked(self) -> None:
        """The next picture is asked for now."""
        self._asked_s.append(time.monotonic())

    def times(self, taken_s: float | None) -> tuple[float, float | None]:
        """When a picture was taken, by `time.monotonic`, and in seconds since 1970 where its clock is that.

        Args:
            taken_s: What its stamp says; None where it has none.
        """
        now_s, clock_s = time.monotonic(), None
        captured_s = now_s if taken_s is None else taken_s
        longest_s = now_s - self._asked_s[0] + _OLDEST_S
        if not now_s - longest_s <= captured_s <= now_s:
            unix_s = time.time()
            clock_s = captured_s if unix_s - longest_s <= captured_s <= unix_s else None
            captured_s = now_s
        self._last_s = max(captured_s, self._last_s)
        return self._last_s, clock_s
