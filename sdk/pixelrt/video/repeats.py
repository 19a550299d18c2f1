"""Events that come again and again, such as the tries of a camera that is away for a week, in few lines."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from pixelrt.video.events import Event, EventKind

_REPEATED: frozenset[EventKind] = frozenset(("reconnecting", "damaged", "skipped", "mistimed"))
"""What may come for ever and changes nothing; changes of state are all worth a line."""
_FEW = 3
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 10.0, 600.0


@dataclass(slots=True)
class _Series:
    """Events of one kind and source, since the last one that was worth a line."""

    said: int = 0
    said_s: float = 0.0
    unsaid: int = 0
    last_s: float = 0.0
    """When the last one happened, said or not."""
    pause_s: float = _FIRST_PAUSE_S


class Repeats:
    """Says which events are worth a line: of the same kind and source the first three, then few.

    The pauses between those grow from 10 seconds to 10 minutes. A source that connects again, or tells
    nothing of the kind for that long, begins anew. From any thread.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._series: dict[tuple[str, EventKind], _Series] = {}

    def line(self, event: Event) -> str | None:
        """What to write about an event, with how many like it were left out before; None for nothing."""
        text = f"{event.source}: {event.kind}: {event.detail}"
        with self._lock:
            if event.kind == "connected":
                self._series.pop((event.source, "reconnecting"), None)
            if event.kind not in _REPEATED:
                return text
            unsaid = self._unsaid(event)
        if unsaid is None:
            return None
        return f"{text} ({unsaid} more like this since the last line)" if unsaid else text

    def _unsaid(self, event: Event) -> int | None:
        """How many were left out before this one; None if it is left out, too."""
        series = self._series.setdefault((event.source, event.kind), _Series())
        if event.at_s - series.last_s >= _LONGEST_PAUSE_S:
            series.said, series.pause_s = 0, _FIRST_PAUSE_S
        series.last_s = event.at_s
        if series.said >= _FEW:
            if event.at_s - series.said_s < series.pause_s:
                series.unsaid += 1
                return None
            series.pause_s = min(2 * series.pause_s, _LONGEST_PAUSE_S)
        unsaid, series.unsaid = series.unsaid, 0
        series.said, series.said_s = series.said + 1, event.at_s
        return unsaid
