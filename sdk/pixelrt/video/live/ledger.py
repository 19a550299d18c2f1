"""What became of every frame."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass

_WINDOW_S = 5.0
_MOST_TIMES = 512


class Meter:
    """Frames a second over the last seconds (the last 512 frames, where more come), in constant memory."""

    def __init__(self) -> None:
        self._times: deque[float] = deque(maxlen=_MOST_TIMES)

    def note(self, now_s: float) -> None:
        """One more."""
        self._times.append(now_s)

    def fps(self, now_s: float) -> float:
        """The rate; it sinks while none comes."""
        times = self._times
        while times and times[0] < now_s - _WINDOW_S:
            times.popleft()
        if len(times) < 2:
            return 0.0
        span_s = times[-1] - times[0]
        gaps = len(times) - 1
        silent_s = now_s - times[-1]
        if silent_s > 2 * span_s / gaps:
            span_s += silent_s
        return gaps / span_s if span_s else 0.0


@dataclass(frozen=True, slots=True)
class Account:
    """The counts of a source, of one moment."""

    captured: int
    delivered: int
    dropped: Mapping[str, int]
    fps_captured: float
    fps_delivered: float

    @property
    def in_flight(self) -> int:
        """Frames that are neither delivered nor dropped."""
        return self.captured - self.delivered - sum(self.dropped.values())


class _Counts:
    def __init__(self) -> None:
        self.captured = self.delivered = 0
        self.dropped: Counter[str] = Counter()
        self.capturing, self.delivering = Meter(), Meter()


class Ledger:
    """Counts the frames of several sources. From any thread.

    Args:
        sources: How many.
    """

    def __init__(self, sources: int) -> None:
        self._lock = threading.RLock()
        self._counts = [_Counts() for _ in range(sources)]

    def captured(self, source: int) -> None:
        """A frame came out of its source."""
        counts = self._counts[source]
        with self._lock:
            counts.captured += 1
            counts.capturing.note(time.monotonic())

    def delivered(self, source: int) -> None:
        """A result was taken."""
        counts = self._counts[source]
        with self._lock:
            counts.delivered += 1
            counts.delivering.note(time.monotonic())

    def dropped(self, source: int, reason: str) -> None:
        """A frame will have no delivered result."""
        with self._lock:
            self._counts[source].dropped[reason] += 1

    def settle(self, reason: str) -> None:
        """Whatever is still on its way will not be delivered: everything has ended."""
        with self._lock:
            for source, account in enumerate(self.accounts()):
                if account.in_flight:
                    self._counts[source].dropped[reason] += account.in_flight

    @property
    def all_captured(self) -> int:
        """Frames of all sources."""
        with self._lock:
            return sum(counts.captured for counts in self._counts)

    def accounts(self) -> list[Account]:
        """Of each source, all of one moment."""
        with self._lock:
            now_s = time.monotonic()
            return [
                Account(
                    captured=counts.captured,
                    delivered=counts.delivered,
                    dropped=dict(counts.dropped),
                    fps_captured=counts.capturing.fps(now_s),
                    fps_delivered=counts.delivering.fps(now_s),
                )
                for counts in self._counts
            ]
