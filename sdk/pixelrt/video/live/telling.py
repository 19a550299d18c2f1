"""Events of a stream: into the log, and to the program; its statistics into the log."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from pixelrt.video.events import Event
from pixelrt.video.live.failing import Failing
from pixelrt.video.live.options import OnEvent
from pixelrt.video.live.statistics import StreamStatistics

_LOG = logging.getLogger("pixelrt.video.events")
_STATISTICS_LOG = logging.getLogger("pixelrt.video.statistics")
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


class StatisticsLog:
    """Logs statistics again and again.

    Args:
        every_s: Seconds between two lines; None for no line at all.
        statistics: Says what they are now.
    """

    def __init__(self, every_s: float | None, statistics: Callable[[], StreamStatistics]) -> None:
        self._every_s, self._statistics = every_s, statistics
        self._logged_s = time.monotonic()

    def look(self, now_s: float) -> None:
        """Log a line if its time has come."""
        if self._every_s is not None and now_s - self._logged_s >= self._every_s:
            self._logged_s = now_s
            _STATISTICS_LOG.info("%s", self._statistics())

    def end(self) -> None:
        """Log the last line."""
        if self._every_s is not None:
            _STATISTICS_LOG.info("%s", self._statistics())
