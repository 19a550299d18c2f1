"""What a run measured."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from typing import Any

from pixelrt.machine import Machine
from pixelrt.session import SessionInfo
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
class RunReport:
    """What went in, what came out, and how long it took."""

    bundle: str
    head: str
    source: str
    frame_size: tuple[int, int]
    """Height and width of the first frame."""
    outputs: tuple[str, ...]
    """Files and folders that were written."""
    frames: int
    interrupted: bool
    """Whether it was stopped before the source ended."""
    seconds: float
    """From the first frame asked for to the last file finished."""
    fps: float
    """Frames by `seconds`: everything is in it."""
    stages: dict[str, StageStatistics]
    """decode, prepare, network, draw, encode, end to end (one frame from its decoding to its last sink), and
    score where there is ground truth (counting hits; it is in `seconds` and in no other stage)."""
    coverage: dict[str, float]
    """Mean share of the picture per class, 0..1."""
    accuracy: Accuracy | None
    """Where the source has ground truth in the classes of the head."""
    no_accuracy: str
    """Why there is none, where the source has labels and they cannot be used."""
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
