"""What a run measured."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from typing import Any

from pixelrt.machine import Machine
from pixelrt.session import SessionInfo
from pixelrt.video.live.options import Policy
from pixelrt.video.live.statistics import SinkStatistics
from pixelrt.video.statistics import StageStatistics


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """The masks against the source's labels, at the frames' own size."""

    miou: float | None
    """Mean over the classes that occurred, 0..1; None where none did."""
    iou: dict[str, float | None]
    """Intersection over union per class, 0..1; None for classes that never occurred."""
    pixel_accuracy: float | None
    """Share of labelled pixels whose class is right, 0..1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceReport:
    """One source: `captured == frames + sum(dropped.values())`."""

    name: str
    frame_size: tuple[int, int]
    """Height and width of the first frame; (0, 0) where none came."""
    frame_sizes: tuple[tuple[int, int], ...]
    """Heights and widths of the frames that have results: several where the camera changed its size."""
    fps: float
    """Nominal."""
    live: bool
    """Whether frames came at their own time."""
    captured: int
    """Frames that came out of the source."""
    frames: int
    """Those with a result."""
    dropped: dict[str, int]
    """Those without one, by reason: see `SourceStatistics.dropped`."""
    lost: dict[str, int]
    """Frames that the source itself lost, by its reasons; not among `captured`."""
    reconnects: int
    failed: str
    """Why it broke; empty while all is well."""
    coverage: dict[str, float]
    """Mean share of the picture per class, 0..1."""
    accuracy: Accuracy | None
    """Where the source has ground truth in the classes of the head."""
    no_accuracy: str
    """Why there is none, where the source has labels and they cannot be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport:
    """What went in, what came out, and how long it took."""

    bundle: str
    head: str
    policy: Policy | None
    """Whether every frame was computed (`all`), or the newest (`latest`); None where sources differ."""
    deadline_s: float | None
    """Age above which frames and results were dropped; None for no limit."""
    source: str
    """Names of the sources."""
    frame_size: tuple[int, int]
    """Height and width of the first frame of the first source."""
    outputs: tuple[str, ...]
    """Files and folders that were written; after an error those that are left: finished parts of a recording,
    and what is kept of the last one."""
    frames: int
    """Results, of all sources."""
    interrupted: bool
    """Whether it was stopped before all sources had ended, or broken."""
    seconds: float
    """From the first frame asked for to the last file finished."""
    fps: float
    """Frames by `seconds`: everything is in it."""
    stages: dict[str, StageStatistics]
    """How long frames spent where; see `pixelrt.video.live.statistics.STAGES`. Stages overlap: what one
    frame waits for is another one's turn."""
    network_sizes: dict[str, int]
    """Results per input size of the network, such as `352x480`: several where it adapted."""
    sources: tuple[SourceReport, ...]
    sinks: tuple[SinkStatistics, ...]
    coverage: dict[str, float]
    """Mean share of the picture per class, 0..1, of all sources."""
    accuracy: Accuracy | None
    """Of all sources with ground truth in the classes of the head."""
    no_accuracy: str
    """Why there is none, where a source has labels and they cannot be used."""
    session: SessionInfo
    machine: Machine

    def to_json(self) -> str:
        """Everything, for a file or another program."""
        return json.dumps(_plain(dataclasses.asdict(self)), indent=2, allow_nan=False) + "\n"


def finite(value: float) -> float | None:
    """The value, or None where it is no number."""
    return value if math.isfinite(value) else None


def _plain(data: dict[str, Any]) -> dict[str, Any]:
    libraries: list[dict[str, Any]] = data["machine"]["libraries"]
    data["machine"]["libraries"] = {
        item["library"]["module"]: item["version"] for item in libraries if item["version"] is not None
    }
    return data
