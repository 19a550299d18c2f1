"""What happens to a source or a stream, told when it happens."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Literal

EventKind = Literal[
    "connected",  # frames come, for the first time or again
    "stalled",  # none came for too long; the connection still stands
    "lost",  # the connection broke
    "reconnecting",  # another try begins after `wait_s`
    "resized",  # frames have another size from now on
    "mistimed",  # a recording's stamp cannot be true, and the recorder's time is taken instead
    "damaged",  # a frame was lost because its data were broken
    "skipped",  # the network gave no result for a frame; it goes on with the next one
    "ended",  # the source has no more frames
    "failed",  # it cannot go on
    "overloaded",  # more frames come than are computed: the source loses some, or the loop drops them
    "recovered",  # back to normal: from stalled or overloaded
    "sized",  # the network's input size was changed (adaptive)
    "sink_failed",  # a sink raised and gets no more results
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A change of state."""

    kind: EventKind
    source: str
    """Name of the source, or of the sink for `sink_failed`."""
    detail: str
    """For people: what happened, and what happens next."""
    at_s: float = field(default_factory=time.monotonic)
    """`time.monotonic`."""
    attempt: int = 0
    """For `reconnecting`: number of the try, from 1."""
    wait_s: float = 0.0
    """For `reconnecting`: seconds until it begins."""


def ignore(event: Event) -> None:
    """Take an event and do nothing."""
