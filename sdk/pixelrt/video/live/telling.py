"""Events of a stream: into the log, and to the program."""

from __future__ import annotations

import logging

from pixelrt.video.events import Event
from pixelrt.video.live.failing import Failing
from pixelrt.video.live.options import OnEvent

_LOG = logging.getLogger("pixelrt.video.events")
_WARNINGS = frozenset(
    ("stalled", "lost", "reconnecting", "failed", "overloaded", "sink_failed", "skipped", "damaged")
)


class Teller:
    """Tells events.

    Args:
        on_event: The program's function.
        failing: Takes what it raises.
    """

    def __init__(self, on_event: OnEvent, failing: Failing) -> None:
        self._on_event, self._failing = on_event, failing

    def tell(self, event: Event) -> None:
        """Log an event and hand it to the program; never raises."""
        level = logging.WARNING if event.kind in _WARNINGS else logging.INFO
        _LOG.log(level, "%s: %s: %s", event.source, event.kind, event.detail)
        with self._failing:
            self._on_event(event)
