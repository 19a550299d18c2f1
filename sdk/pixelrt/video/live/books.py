"""Counts and times of a stream, together."""

from __future__ import annotations

from dataclasses import dataclass

from pixelrt.video.live.ledger import Ledger
from pixelrt.video.live.stages import StageClock


@dataclass(frozen=True, slots=True)
class Books:
    """What the parts of a stream write down."""

    ledger: Ledger
    clock: StageClock
