"""How long each stage of a run takes, exactly, in eight bytes a frame and stage."""

from __future__ import annotations

from array import array
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class StageStatistics:
    """The times of one stage over all frames."""

    count: int
    """How often it was measured."""
    p50_ms: float
    p95_ms: float
    p99_ms: float
    mean_ms: float
    max_ms: float


class StageTimes:
    """Times of several stages, frame by frame.

    Args:
        stages: Their names, in order.
    """

    def __init__(self, stages: tuple[str, ...]) -> None:
        self._times: dict[str, array[float]] = {name: array("d") for name in stages}

    def __len__(self) -> int:
        return max((len(times) for times in self._times.values()), default=0)

    def add(self, **times_ms: float) -> None:
        """Note the stages of one frame, in milliseconds."""
        for name, time_ms in times_ms.items():
            self._times[name].append(time_ms)

    def statistics(self) -> dict[str, StageStatistics]:
        """Of every stage that was noted, in order."""
        return {name: _summary(times) for name, times in self._times.items() if times}


def _summary(times: array[float]) -> StageStatistics:
    values = np.frombuffer(times, np.float64)
    p50, p95, p99 = (float(value) for value in np.percentile(values, (50, 95, 99)))
    return StageStatistics(
        count=len(values),
        p50_ms=p50,
        p95_ms=p95,
        p99_ms=p99,
        mean_ms=float(values.mean()),
        max_ms=float(values.max()),
    )
