"""How each source is: what it tells, what it does not tell (stalls), and whether the network keeps up."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from pixelrt.video.events import Event, EventKind
from pixelrt.video.health import SEVERITY, Health, HealthState
from pixelrt.video.live.heap import HeapTrim
from pixelrt.video.live.ledger import Account, Ledger
from pixelrt.video.live.load import LoadWindow
from pixelrt.video.live.telling import InOrder, StatisticsLog
from pixelrt.video.waiting import Changes, Flag

_TICK_S = 0.1

_TOLD: dict[EventKind, HealthState] = {
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
    """The worst of several; of equally bad ones that which began first, and of good ones the last."""
    state = max((health.state for health in healths), key=SEVERITY.index)
    alike = [health for health in healths if health.state == state]
    return (max if state == "ok" else min)(alike, key=lambda health: health.since_s)


class Watched(Protocol):
    """What a watch asks a source; see `Source`."""

    @property
    def live(self) -> bool:
        """Whether frames come at their own time; others cannot stall or overload."""

    @property
    def losses(self) -> Mapping[str, int]:
        """Frames that the source lost, by reason."""


class SourceWatch:
    """The health of one source. From any thread.

    Every change of state is told: by the source, or else by this.

    Args:
        name: Of the source.
        source: Asked for its losses.
        stall_s: Seconds without a frame after which it has stalled.
        tell: Told of all events, in their order.
    """

    def __init__(self, name: str, source: Watched, *, stall_s: float, tell: Callable[[Event], None]) -> None:
        self._name, self._source, self._stall_s = name, source, stall_s
        self._events = InOrder(tell)
        self._lock = threading.RLock()
        self._health = Health()
        self._told: EventKind | None = None
        self._told_frames = False
        self._found_stalled = False
        self._asked_s: float | None = None
        self._window = LoadWindow()
        self._over = False
        self.has_ended = False
        """Whether it has no more frames."""
        self.reconnects = 0
        """How often it has connected again."""

    @property
    def health(self) -> Health:
        """Now."""
        return self._health

    def on_event(self, event: Event) -> None:
        """The source tells an event."""
        with self._lock:
            if event.kind == "stalled" and self._found_stalled:
                return  # that is known already
            if event.kind in _TOLD:
                self._note(event)
            self._events.add(dataclasses.replace(event, source=self._name))
        self._events.tell_all()

    def asked(self) -> None:
        """The source is asked for its next frame."""
        with self._lock:
            self._asked_s = time.monotonic()

    def came(self, size: tuple[int, int], fps: float) -> None:
        """It gave one."""
        with self._lock:
            self._asked_s = None
            before = self._health.state
            first, self._told_frames = not self._told_frames, True
            if before not in ("ok", "overloaded"):
                self._become("ok")
            if first:
                nominally = "nominally " if self._source.live else ""
                self._say("connected", f"frames of {size[0]}x{size[1]} come, {nominally}{fps:g} a second")
            elif before == "reconnecting":
                self.reconnects += 1
                self._say("connected", "frames come again")
            elif before in ("stalled", "failed"):
                self._say("recovered", "frames come again")
        self._events.tell_all()

    def ended(self) -> None:
        """It has no more. A camera that was away, or silent, and was not waited for any longer, stays so."""
        with self._lock:
            self._asked_s = None
            self._over = self.has_ended = True
            if self._health.state == "overloaded":  # the load is that of frames that come
                self._become("ok")
            if self._told != "ended":
                self._say("ended", "there are no more frames")
        self._events.tell_all()

    def failed(self, problem: BaseException) -> None:
        """It raised."""
        with self._lock:
            self._asked_s = None
            self._over = True
            self._become("failed", str(problem))
            if self._told != "failed":
                self._say("failed", str(problem))
        self._events.tell_all()

    def stopped(self) -> None:
        """Nobody asks it for frames any more: it stays as it is."""
        self._over = True

    def look(self, now_s: float, account: Account, network_s: float) -> None:
        """Look for a stall and for overload.

        Args:
            now_s: `time.monotonic`.
            account: Its frames so far.
            network_s: How long the network takes for a frame.
        """
        losses = self._source.losses
        with self._lock:
            if self._source.live and not self._over:
                self._look_for_stall(now_s)
                self._look_for_overload(now_s, account, losses, network_s)
        self._events.tell_all()

    def _note(self, event: Event) -> None:
        """What a source tells of itself."""
        self._told = event.kind
        self._become(_TOLD[event.kind], event.detail)
        if self._asked_s is not None:  # a silence from before is over, or was told
            self._asked_s = time.monotonic()
        if event.kind == "connected":
            self.reconnects += self._told_frames
            self._told_frames = True

    def _look_for_stall(self, now_s: float) -> None:
        asked_s = self._asked_s
        if asked_s is None or now_s - asked_s < self._stall_s:
            return
        silent_s = now_s - asked_s
        why = f"no frame for {silent_s:.1f} s" if self._told_frames else f"no frame yet, in {silent_s:.1f} s"
        if self._found_stalled:
            self._become("stalled", why)
        elif self._health.state in ("ok", "overloaded"):
            self._become("stalled", why, since_s=asked_s)
            self._found_stalled = True
            self._say("stalled", why)

    def _look_for_overload(
        self, now_s: float, account: Account, losses: Mapping[str, int], network_s: float
    ) -> None:
        if self._health.state not in ("ok", "overloaded"):  # the load is that of frames that come
            self._window.clear()
            return
        load = self._window.note(now_s, account, losses)
        if load is None:
            return
        why = load.why(network_s)
        if self._health.state == "overloaded":
            if load.is_light:
                self._become("ok")
                self._say("recovered", why)
            elif load.came:
                self._become("overloaded", why)
        elif load.is_too_much:
            self._become("overloaded", why)
            self._say("overloaded", why)

    def _become(self, state: HealthState, why: str = "", since_s: float | None = None) -> None:
        """Be in a state from now on, or for another reason."""
        before = self._health
        if state != before.state:
            self._found_stalled = False
            since_s = time.monotonic() if since_s is None else since_s
        else:
            since_s = before.since_s
        self._health = Health(state=state, since_s=since_s, why="" if state == "ok" else why)

    def _say(self, kind: EventKind, detail: str) -> None:
        self._events.add(Event(kind=kind, source=self._name, detail=detail))


class Monitor:
    """Looks at every source, some times a second, and after the heap.

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
        self._heap, self._over = HeapTrim(), Flag()

    def run(self) -> None:
        """Look until `stop`."""
        while not self._over.wait(_TICK_S):
            now_s, network_s = time.monotonic(), self._network_s()
            for watch, account in zip(self._watches, self._ledger.accounts(), strict=True):
                watch.look(now_s, account, network_s)
            self._log.look(now_s)
            self._heap.look(now_s)

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
        self._changes = Changes(self._lock)
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
                self._changes.notify_all()

    def stop(self) -> None:
        """Watch no more."""
        with self._lock:
            self._over = True
            self._changes.notify_all()

    def _silence(self) -> float | None:
        """Wait for a silence that is too long, and was not told yet."""
        while True:
            with self._lock:
                seen = self._changes.count
                if self._over:
                    return None
                silence_s = time.monotonic() - self._fed_s
                left_s = None if self._silent else self._seconds - silence_s
                if left_s is not None and left_s <= 0:
                    self._silent = True
                    return silence_s
                change = self._changes.register(seen)
            change.wait(left_s)
