"""How it goes, in numbers: what the page is told twice a second."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """How something is, since when, and why."""

    state: str = "ok"
    """ok, overloaded, stalled, reconnecting, failed or ended."""
    since_s: float = 0.0
    """`time.monotonic` when it began."""
    why: str = ""
    """For people; empty while all is well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraNumbers:
    """Of one camera, since its start."""

    captured: int
    """Frames."""
    delivered: int
    dropped: Mapping[str, int]
    """Frames by reason, left out on purpose."""
    lost: Mapping[str, int]
    """Frames by reason that never came."""
    reconnects: int
    fps_captured: float
    fps_delivered: float
    health: State


@dataclass(frozen=True, slots=True, kw_only=True)
class StageNumbers:
    """Milliseconds that a stage took lately."""

    p50_ms: float
    p95_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkNumbers:
    """Of one place where results go."""

    name: str
    written: int
    dropped: int
    failed: str = ""
    """Why it takes no more; empty while it does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    """Of everything."""

    seconds: float = 0.0
    """Since the start."""
    health: State | None = None
    """As bad as the worst camera's; None where nobody knows."""
    cameras: Mapping[str, CameraNumbers] = field(default_factory=dict)
    stages: Mapping[str, StageNumbers] = field(default_factory=dict)
    """In their order on a frame's way."""
    sinks: tuple[SinkNumbers, ...] = ()


def plain(numbers: Numbers, now_s: float) -> dict[str, Any]:
    """As JSON has it: times are seconds ago (`for_s`), and what is no number is null.

    Args:
        numbers: What to tell.
        now_s: `time.monotonic`.
    """
    told = _plain(dataclasses.asdict(numbers), now_s)
    assert isinstance(told, dict)
    return told


def _plain(value: Any, now_s: float) -> Any:
    if isinstance(value, Mapping):
        pairs = {str(key): _plain(item, now_s) for key, item in value.items() if key != "since_s"}
        if "since_s" in value:
            pairs["for_s"] = round(max(now_s - value["since_s"], 0.0), 1)
        return pairs
    if isinstance(value, (list, tuple)):
        return [_plain(item, now_s) for item in value]
    if isinstance(value, float):
        return round(value, 2) if math.isfinite(value) else None
    return value
