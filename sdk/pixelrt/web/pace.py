"""How many frames come, and how old they are when they come."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass

import numpy as np

_MOST = 2048
"""Frames that are kept: 10 s at 200 frames a second."""
_RATE_S = 2.0
_AGES_S = 10.0


@dataclass(frozen=True, slots=True)
class Sample:
    """The pace at one moment."""

    at_s: float
    """`time.monotonic`."""
    fps: float
    """Frames a second over the last 2 s."""
    p50_ms: float | None
    """Age over the last 10 s, capture to delivery; None where no frame came."""
    p99_ms: float | None


class Pace:
    """Of one camera, in constant memory; may be used from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._frames: deque[tuple[float, float]] = deque(maxlen=_MOST)
        self._first_s: float | None = None

    def add(self, at_s: float, age_ms: float) -> None:
        """A frame came.

        Args:
            at_s: `time.monotonic`.
            age_ms: From capture to delivery.
        """
        with self._lock:
            self._first_s = at_s if self._first_s is None else self._first_s
            self._frames.append((at_s, age_ms))

    def sample(self, now_s: float) -> Sample:
        """The pace now.

        Args:
            now_s: `time.monotonic`.
        """
        with self._lock:
            frames, first_s = list(self._frames), self._first_s
        if first_s is None:
            return Sample(now_s, 0.0, None, None)
        count = sum(at_s > now_s - _RATE_S for at_s, _ in frames)
        span_s = min(max(now_s - first_s, 0.25), _RATE_S)
        ages = [age_ms for at_s, age_ms in frames if at_s > now_s - _AGES_S]
        if not ages:
            return Sample(now_s, count / span_s, None, None)
        p50, p99 = np.percentile(ages, [50, 99])
        return Sample(now_s, count / span_s, float(p50), float(p99))
