"""Events of a stream: into the log, and to the program; its statistics into the log."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable

from pixelrt.video.events import Event
from pixelrt.video.live.failing import Failing
from pixelrt.video.live.options import OnEvent
from pixelrt.video.live.statistics import StreamStatistics
from pixelrt.video.repeats import Repeats

_LOG = logging.getLogger("pixelrt.video.events")
_STATISTICS_LOG = logging.getLogger("pixelrt.video.statistics")
_WARNINGS = frozenset(
    ("stalled", "lost", "reconnecting", "failed", "overloaded", "sink_failed", "skipped", "damaged")
)


class Teller:
    """Tells events: the program gets every one, the log those that are worth a line.

    Args:
        on_event: The program's function.
        failing: Takes what it raises.
    """

    def __init__(self, on_event: OnEvent, failing: Failing) -> None:
        self._on_event, self._failing = on_event, failing
        self._repeats = Repeats()

    def tell(self, event: Event) -> None:
        """Log an event and hand it to the program; never raises."""
        line = self._repeats.line(event)
        if line is not None:
            _LOG.log(logging.WARNING if event.kind in _WARNINGS else logging.INFO, "%s", line)
        with self._failing:
            self._on_event(event)


class InOrder:
    """Tells the events of several threads one after another, in the order in which they happened.

    No thread waits for what another one's event makes the program do: that one tells this event, too.

    Args:
        tell: Told.
    """

    def __init__(self, tell: Callable[[Event], None]) -> None:
        self._tell = tell
        self._untold: deque[Event] = deque()
        self._turn = threading.Lock()

    def add(self, event: Event) -> None:
        """An event has happened. Call it with the lock held that the change was made under."""
        self._untold.append(event)

    def tell_all(self) -> None:
        """Tell what has been added, unless another thread is at it, or this one. Call it without a lock."""
        while self._untold and self._turn.acquire(blocking=False):
            try:
                while self._untold:
                    self._tell(self._untold.popleft())
            finally:
                self._turn.release()


class StatisticsLog:
    """Logs statistics again and again.

    Args:
        every_s: Seconds between two lines; None for no line at all.
        statistics: Says what they are now.
    """

    def __init__(self, every_s: float | None, statistics: Callable[[], StreamStatistics]) -> None:
        self._every_s, self._statistics = every_s, statistics
        self._logged_s = time.monotonic()
        self._lock, self._ended = threading.RLock(), False

    def look(self, now_s: float) -> None:
        """Log a line if its time has come."""
        if self._every_s is not None and now_s - self._logged_s >= self._every_s:
            self._logged_s = now_s
            _STATISTICS_LOG.info("%s", self._statistics())

    def end(self) -> None:
        """Log the last line, once. From any thread."""
        with self._lock:
            ended, self._ended = self._ended, True
        if self._every_s is not None and not ended:
            _STATISTICS_LOG.info("%s", self._statistics())
