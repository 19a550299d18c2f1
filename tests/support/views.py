"""A stream as pages, panels and metrics see it, with figures made by hand."""

from __future__ import annotations

import dataclasses

from pixelrt.video.health import Health
from pixelrt.video.live.statistics import (
    SinkStatistics,
    SourceStatistics,
    SourceStatus,
    StreamStatistics,
)
from pixelrt.video.statistics import StageStatistics


def stage(p50_ms: float, count: int = 100) -> StageStatistics:
    """Times whose 95th percentile is twice, and whose 99th is three times the median, which is the mean."""
    return StageStatistics(
        count=count, p50_ms=p50_ms, p95_ms=2 * p50_ms, p99_ms=3 * p50_ms, mean_ms=p50_ms, max_ms=4 * p50_ms
    )


FRONT = SourceStatistics(
    name="front",
    captured=120,
    delivered=100,
    dropped={"newer": 15, "deadline": 3},
    in_flight=2,
    lost={"damaged": 4},
    reconnects=1,
    fps_captured=30.0,
    fps_delivered=25.0,
    queue_depth=1,
    health=Health(since_s=0.0),
    ended=False,
)
REAR = dataclasses.replace(
    FRONT,
    name="rear",
    dropped={},
    captured=102,
    lost={},
    health=Health(state="reconnecting", since_s=0.0, why="connection refused; next try in 4 s"),
)
STATISTICS = StreamStatistics(
    seconds=12.5,
    sources=(FRONT, REAR),
    stages={"network": stage(10.0), "capture to delivery": stage(20.0)},
    recent={"network": stage(11.0, count=10), "capture to delivery": stage(22.0, count=10)},
    sinks=(
        SinkStatistics(name="out.mp4", written=95, dropped=3, queue_depth=2, failed=""),
        SinkStatistics(name="web", written=5, dropped=95, queue_depth=0, failed="the disk is full"),
    ),
    health=REAR.health,
)


class View:
    """A stream that always says the same, until told otherwise.

    Args:
        now: What it says.
    """

    def __init__(self, now: StreamStatistics = STATISTICS) -> None:
        self.now = now

    def statistics(self) -> StreamStatistics:
        return self.now

    @property
    def health(self) -> Health:
        return self.now.health

    @property
    def sources(self) -> tuple[SourceStatus, ...]:
        return tuple(
            SourceStatus(
                name=source.name,
                health=source.health,
                size=(720, 1280),
                fps=30.0,
                live=True,
                policy="latest",
                ended=source.ended,
            )
            for source in self.now.sources
        )
