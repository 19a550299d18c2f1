"""How a stream and its sources are, since when, and why."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Literal

HealthState = Literal["ok", "overloaded", "stalled", "reconnecting", "failed"]

SEVERITY: tuple[HealthState, ...] = ("ok", "overloaded", "stalled", "reconnecting", "failed")
"""From good to bad: a stream is as its worst source is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """One state."""

    state: HealthState = "ok"
    since_s: float = field(default_factory=time.monotonic)
    """`time.monotonic` when it began: also `ok` begins anew after whatever it was that was not."""
    why: str = ""
    """For people, as it is now; empty while all is well."""

    @property
    def is_ok(self) -> bool:
        """Whether all is well."""
        return self.state == "ok"
