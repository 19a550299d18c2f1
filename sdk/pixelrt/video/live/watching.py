"""How each source is: what it tells, what it does not tell (stalls), and whether the network keeps up."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pixelrt.video.events import Event, EventKind
from pixelrt.video.health import SEVERITY, Health, HealthState
from pixelrt.video.live.ledger import Account, Ledger
from pixelrt.video.live.telling import StatisticsLog

_TICK_S = 0.1
_LOAD_WINDOW_S = 2.0
_OVERLOADED_SHARE = 0.1
"""Share of the captured frames that found the network busy, above which a source is overloaded."""
_EASED_SHARE = 0.02
"""The share below which it is so no more."""
_FEWEST_FRAMES = 5
"""In the window, to say anything."""

_LINKS: dict[EventKind, HealthState] = {
    "connected": "ok",
    "recovered": "ok",
    "stalled": "stalled",
    "lost": "reconnecting",
    "reconnecting": "reconnecting",
    "failed": "failed",
    "ended": "ok",
}
"""The state that a source is in after it told an event."""


def worst(healths: Sequence[Health]) -> Health:
    """The worst of several; of equally bad ones that which began first."""
    return max(healths, key=lambda health: (SEVERITY.index(health.state), -health.since_s))


@dataclass(frozen=True, slots=True)
class _Load:
    at_s: float
    captured: int
    busy: int
    """Dropped because the network was busy."""


class SourceWatch:
    """The health of one source. From any thread.

    Args:
        name: Of the source.
        live: Whether frames come at their own time; others cannot stall or overload.
        stall_s: Seconds without a frame after which it has stalled.
        tell: Told of changes that the source does not tell itself.
    """

    def __init__(self, name: str, *, live: bool, stall_s: float, tell: Callable[[Event], None]) -> None:
        self._name, self._live, self._stall_s, self._tell = name, live, stall_s, tell
        self._lock = threading.RLock()
        self._link, self._load = Health(), Health()
        self._told: EventKind | None = None
        self._told_frames = False
        self._found_stalled = False
        self._asked_s: float | None = None
        self._loads: deque[_Load] = deque()
        self._over = False
        self.has_ended = False
        """Whether it has no more frames."""
        self.reconnects = 0
        """How often it has connected again."""

    @property
    def health(self) -> Health:
        """Now."""
        with self._lock:
            return self._load if self._link.is_ok else self._link

    def on_event(self, event: Event) -> None:
        """The source tells an event."""
        with self._lock:
            if event.kind == "stalled" and self._found_stalled:
                return  # that is known already
            if event.kind in _LINKS:
                self._found_stalled = False
                self._told = event.kind
                self._set_link(_LINKS[event.kind], event.detail)
                if self._asked_s is not None:  # a silence from before is over, or was told
                    self._asked_s = time.monotonic()
            if event.kind == "connected":
                self.reconnects += self._told_frames
                self._told_frames = True
        self._tell(event)

    def asked(self) -> None:
        """The source is asked for its next frame."""
        with self._lock:
            self._asked_s = time.monotonic()

    def came(self, size: tuple[int, int], fps: float) -> None:
        """It gave one."""
        with self._lock:
            self._asked_s = None
            first, self._told_frames = not self._told_frames, True
            recovered, self._found_stalled = self._found_stalled, False
            if not self._link.is_ok:
                self._set_link("ok", "")
        if first:
            self._say("connected", f"frames of {size[0]}x{size[1]} come, {fps:g} a second")
        if recovered:
            self._say("recovered", "frames come again")

    def ended(self) -> None:
        """It has no more."""
        with self._lock:
            self._asked_s = None
            self._over = self.has_ended = True
            told = self._told == "ended"
            self._link = self._load = Health()
        if not told:
            self._say("ended", "there are no more frames")

    def failed(self, problem: BaseException) -> None:
        """It raised."""
        with self._lock:
            self._asked_s = None
            self._over = True
            told = self._told == "failed"
            self._set_link("failed", str(problem))
        if not told:
            self._say("failed", str(problem))

    def stopped(self) -> None:
        """Nobody asks it for frames any more."""
        self._over = True

    def look(self, now_s: float, account: Account, network_s: float) -> None:
        """Look for a stall and for overload.

        Args:
            now_s: `time.monotonic`.
            account: Its frames so far.
            network_s: How long the network takes for a frame.
        """
        if self._live and not self._over:
            self._look_for_stall(now_s)
            self._look_for_overload(now_s, account, network_s)

    def _look_for_stall(self, now_s: float) -> None:
        with self._lock:
            asked_s = self._asked_s
            if asked_s is None or now_s - asked_s < self._stall_s or not self._link.is_ok:
                return
            self._found_stalled = True
            why = f"no frame for {now_s - asked_s:.1f} s"
            self._set_link("stalled", why, since_s=asked_s)
        self._say("stalled", why)

    def _look_for_overload(self, now_s: float, account: Account, network_s: float) -> None:
        busy = account.dropped.get("newer", 0) + account.dropped.get("deadline", 0)
        loads = self._loads
        if not self._link.is_ok:  # its load is that of frames that come
            loads.clear()
            return
        loads.append(_Load(now_s, account.captured, busy))
        while len(loads) > 2 and loads[1].at_s <= now_s - _LOAD_WINDOW_S:
            loads.popleft()
        first = loads[0]
        seconds, came = now_s - first.at_s, account.captured - first.captured
        if seconds < _LOAD_WINDOW_S or (came < _FEWEST_FRAMES and self._load.is_ok):
            return
        share = (busy - first.busy) / came if came else 0.0
        computed = max(came - busy + first.busy, 0) / seconds
        why = (
            f"{came / seconds:.1f} frames/s come, {computed:.1f} are computed ({1e3 * network_s:.0f} ms each)"
        )
        if self._load.is_ok and share > _OVERLOADED_SHARE:
            self._set_load("overloaded", why)
        elif not self._load.is_ok and share < _EASED_SHARE:
            self._set_load("recovered", why)

    def _set_load(self, kind: EventKind, why: str) -> None:
        with self._lock:
            self._load = Health(state="overloaded", why=why) if kind == "overloaded" else Health()
        self._say(kind, why)

    def _set_link(self, state: HealthState, why: str, since_s: float | None = None) -> None:
        if state != self._link.state:
            since_s = time.monotonic() if since_s is None else since_s
            self._link = Health(state=state, since_s=since_s, why="" if state == "ok" else why)
        elif state != "ok":
            self._link = Health(state=state, since_s=self._link.since_s, why=why)

    def _say(self, kind: EventKind, detail: str) -> None:
        self._tell(Event(kind=kind, source=self._name, detail=detail))


class Monitor:
    """Looks at every source, some times a second.

    Args:
        watches: Of the sources.
        ledger: Of their frames.
        network_s: How long the network takes for a frame, lately.
        log: Of statistics.
    """

    def __init__(
        self,
        watches: Sequence[SourceWatch],
        ledger: Ledger,
        network_s: Callable[[], float],
        log: StatisticsLog,
    ) -> None:
        self._watches, self._ledger, self._network_s, self._log = watches, ledger, network_s, log
        self._over = threading.Event()

    def run(self) -> None:
        """Look until `stop`."""
        while not self._over.wait(_TICK_S):
            now_s, network_s = time.monotonic(), self._network_s()
            for watch, account in zip(self._watches, self._ledger.accounts(), strict=True):
                watch.look(now_s, account, network_s)
            self._log.look(now_s)
        self._log.end()

    def stop(self) -> None:
        """Look no more."""
        self._over.set()


class Watchdog:
    """Barks once when no result came for too long; the next result arms it again.

    Args:
        seconds: The longest silence.
        bark: Called with the seconds since the last result.
    """

    def __init__(self, seconds: float, bark: Callable[[float], None]) -> None:
        self._seconds, self._bark = seconds, bark
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._fed_s = time.monotonic()
        self._silent = self._over = False

    def run(self) -> None:
        """Watch until `stop`; from now on."""
        self._fed_s = time.monotonic()
        while (silence_s := self._silence()) is not None:
            self._bark(silence_s)

    def feed(self) -> None:
        """A result came."""
        with self._lock:
            self._fed_s = time.monotonic()
            if self._silent:
                self._silent = False
                self._changed.notify_all()

    def stop(self) -> None:
        """Watch no more."""
        with self._lock:
            self._over = True
            self._changed.notify_all()

    def _silence(self) -> float | None:
        """Wait for a silence that is too long, and was not told yet."""
        with self._lock:
            while not self._over:
                silence_s = time.monotonic() - self._fed_s
                if self._silent:
                    self._changed.wait()
                elif silence_s < self._seconds:
                    self._changed.wait(self._seconds - silence_s)
                else:
                    self._silent = True
                    return silence_s
            return None
