"""How long each stage takes, in constant memory however long a stream runs."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable
from typing import Any

from pixelrt.dependency import require
from pixelrt.video.live.statistics import STAGES
from pixelrt.video.statistics import StageStatistics

_ACCURACY = 0.01
_WINDOW_S = 2.5
_RECENT_WINDOWS = 4


class _Times:
    """The times of one stage: a histogram whose bins are 2 % wide, and the exact maximum."""

    __slots__ = ("_sketch", "max_ms")

    def __init__(self) -> None:
        ddsketch = require("ddsketch", "video", "statistics of a stream")
        self._sketch: Any = ddsketch.LogCollapsingLowestDenseDDSketch(_ACCURACY)
        self.max_ms = 0.0

    def add(self, time_ms: float) -> None:
        self._sketch.add(time_ms)
        self.max_ms = max(self.max_ms, time_ms)

    def merge(self, other: _Times) -> None:
        self._sketch.merge(other._sketch)
        self.max_ms = max(self.max_ms, other.max_ms)

    def summary(self) -> StageStatistics:
        p50, p95, p99 = (
            min(float(self._sketch.get_quantile_value(q)), self.max_ms) for q in (0.5, 0.95, 0.99)
        )
        return StageStatistics(
            count=int(self._sketch.count),
            p50_ms=p50,
            p95_ms=p95,
            p99_ms=p99,
            mean_ms=float(self._sketch.avg),
            max_ms=self.max_ms,
        )


_Window = dict[str, _Times]


class StageClock:
    """Times of the stages, over the whole run and over the last ten seconds. From any thread.

    Raises:
        MissingDependency: If `ddsketch` is not installed.
    """

    def __init__(self) -> None:
        require("ddsketch", "video", "statistics of a stream")
        self._lock = threading.RLock()
        self._ages: _Window = {}
        self._closed: deque[_Window] = deque()
        self._current: _Window = {}
        self._until_s = time.monotonic() + _WINDOW_S

    def add(self, stage: str, seconds: float) -> None:
        """Note how long a stage took."""
        with self._lock:
            self._turn()
            times = self._current.get(stage)
            if times is None:
                times = self._current[stage] = _Times()
            times.add(max(1e3 * seconds, 0.0))

    def whole(self) -> dict[str, StageStatistics]:
        """Of the whole run."""
        with self._lock:
            return _summaries([self._ages, *self._closed, self._current])

    def recent(self) -> dict[str, StageStatistics]:
        """Of the last ten seconds, roughly."""
        with self._lock:
            self._turn()
            return _summaries([*self._closed, self._current])

    def _turn(self) -> None:
        """Begin a new window where its time has come; the oldest is added to the ages before it."""
        now_s = time.monotonic()
        while now_s >= self._until_s:
            self._closed.append(self._current)
            self._current = {}
            self._until_s += _WINDOW_S
            if len(self._closed) > _RECENT_WINDOWS:
                _merge(self._ages, self._closed.popleft())
            if not any(self._closed):
                self._until_s = now_s + _WINDOW_S


def _merge(into: _Window, window: _Window) -> None:
    for stage, times in window.items():
        into.setdefault(stage, _Times()).merge(times)


def _summaries(windows: Iterable[_Window]) -> dict[str, StageStatistics]:
    together: _Window = {}
    for window in windows:
        _merge(together, window)
    names = dict.fromkeys([*STAGES, *sorted(together)])
    return {stage: together[stage].summary() for stage in names if stage in together}
