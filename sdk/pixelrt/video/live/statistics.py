"""What a stream says about itself, at any time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from pixelrt.video.health import Health
from pixelrt.video.statistics import StageStatistics

_LATENCY = "capture to delivery"
STAGES = ("decode", "wait", "network", "draw", "deliver", _LATENCY)
"""Where the time of a frame goes:

- decode: until the frame is there; of a live source from its capture, of others from being asked for it
- wait: until it is handed to the network
- network: until its result is there
- draw: its overlay, where somebody asked for it; in the thread of a sink or of the program
- deliver: until the program takes the result

Then, for each sink, `sink NAME`: until it has taken a result, with the drawing where it was the first to ask.
"""
DROPS = ("newer", "deadline", "consumer", "failed", "stopped")
"""Why frames have no delivered result:

- newer: replaced by a newer frame before it was computed
- deadline: too old
- consumer: its result was replaced by a newer one before the program took it
- failed: the network gave no result
- stopped: on its way when the stream ended
"""
LOSSES = ("replaced", "damaged", "unkeyed", "driver", "early", "unread")
"""Why sources lose frames before the loop has them; your own may have other reasons:

- replaced: by newer ones, because nobody took it in time
- damaged: its data, or those of one that it builds on, are
- unkeyed: it came before the first keyframe
- driver: had no buffer for it, mostly because nobody took those before it in time
- early: it came while whoever reads was busy with the first frame
- unread: it waited when whoever reads went
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceStatus:
    """A source, as it is now."""

    name: str
    """Unlike the name of every other source of the stream."""
    health: Health
    size: tuple[int, int]
    """Height and width of its latest frame; of its first one before that."""
    fps: float
    """Frames a second, nominal."""
    live: bool
    """Whether its frames come at their own time."""
    policy: Literal["latest", "all"]
    """Which of its frames are computed: the newest, or every one."""
    ended: bool
    """Whether it has no more frames: not after a failure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceStatistics:
    """The frames of a source: `captured == delivered + sum(dropped.values()) + in_flight`, always."""

    name: str
    captured: int
    """Frames that came out of the source."""
    delivered: int
    """Results that the program took; without a program to take them, those that were there."""
    dropped: Mapping[str, int]
    """Frames without a delivered result, by the reasons in `DROPS`; those that happened."""
    in_flight: int
    """Frames between capture and delivery."""
    lost: Mapping[str, int]
    """Frames that the source itself lost and never gave, by its reasons (`LOSSES`); not among `captured`."""
    reconnects: int
    """How often the source has connected again."""
    fps_captured: float
    """Over the last seconds."""
    fps_delivered: float
    """Over the last seconds."""
    queue_depth: int
    """Frames that wait for the network."""
    health: Health
    ended: bool
    """Whether the source has no more frames: not after a failure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkStatistics:
    """The results of a sink."""

    name: str
    written: int
    dropped: int
    """Results that it does not have: it was too slow for them, it failed at or before them, or they waited
    for it when an error ended the stream."""
    queue_depth: int
    """Results that wait for it."""
    failed: str
    """What it raised; empty while all is well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamStatistics:
    """A stream, from its start until now or its end."""

    seconds: float
    sources: tuple[SourceStatistics, ...]
    stages: Mapping[str, StageStatistics]
    """By the names in `STAGES` and of sinks, those that have happened; over the whole run. Percentiles are
    within 1 % of the time, maximum and mean are exact."""
    recent: Mapping[str, StageStatistics]
    """The same over about the last 10 seconds."""
    sinks: tuple[SinkStatistics, ...]
    health: Health

    def __str__(self) -> str:
        """One line for a log."""
        is_of_a_source = any(self.health == source.health for source in self.sources)
        health = self.health.state if is_of_a_source else _health_text(self.health)
        parts = [f"{self.seconds:.1f} s, {health}", *map(_source_text, self.sources)]
        stages = self.recent if _LATENCY in self.recent else self.stages
        if (latency := stages.get(_LATENCY)) is not None:
            parts.append(f"{_LATENCY} p50 {latency.p50_ms:.1f} ms, p99 {latency.p99_ms:.1f} ms")
        return "; ".join(parts)

    @property
    def captured(self) -> int:
        """Frames of all sources."""
        return sum(source.captured for source in self.sources)

    @property
    def delivered(self) -> int:
        """Results of all sources."""
        return sum(source.delivered for source in self.sources)

    @property
    def fps(self) -> float:
        """Delivered results a second of all sources, over the last seconds."""
        return sum(source.fps_delivered for source in self.sources)


def _health_text(health: Health) -> str:
    return f"{health.state} ({health.why})" if health.why else health.state


def _source_text(source: SourceStatistics) -> str:
    health = "" if source.health.is_ok else f"{_health_text(source.health)}, "
    drops = ", ".join(f"{count} {reason}" for reason, count in source.dropped.items() if count)
    lost = ", ".join(f"{count} {reason}" for reason, count in source.lost.items() if count)
    return (
        f"{source.name}: {health}{source.captured} captured ({source.fps_captured:.1f}/s), "
        f"{source.delivered} delivered ({source.fps_delivered:.1f}/s)"
        + (f", dropped {drops}" if drops else "")
        + (f", lost {lost}" if lost else "")
    )


class StreamView(Protocol):
    """What a sink, a page or a metric may ask a stream; from any thread."""

    def statistics(self) -> StreamStatistics:
        """All figures; the counts of frames are of one moment."""

    @property
    def health(self) -> Health:
        """As the worst source is; failed after an error."""

    @property
    def sources(self) -> tuple[SourceStatus, ...]:
        """Every source, in the order in which they were given."""
