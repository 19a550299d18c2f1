"""Packets on their way from the thread that reads to the one that decodes: bounded, never a backlog."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any

from pixelrt.video.waiting import Changes

_BACKLOG_S = 0.5
_MOST_PACKETS = 600
_MOST_FILE_PACKETS = _MOST_PACKETS // 10


@dataclass(frozen=True, slots=True)
class Arrival:
    """When a picture came."""

    captured_s: float
    """`time.monotonic` when its first data were there."""
    clock_s: float | None
    """When it was taken by the camera's clock, seconds since 1970."""


@dataclass(frozen=True, slots=True)
class Parcel:
    """One coded picture."""

    packet: Any
    arrival: Arrival
    restart: bool = False
    """Whether packets before it were left out, so that decoding begins anew."""
    corrupt: bool = False
    """Whether its data are damaged."""


class DamageMarks:
    """Which packets are damaged, told in their order.

    Where FFmpeg cuts a stream into pictures, it marks the one before that which has the hole.
    """

    def __init__(self) -> None:
        self._was_marked = False

    def corrupt(self, packet: Any) -> bool:
        """Whether the data of a packet, the next one, may be damaged."""
        was_marked, self._was_marked = self._was_marked, packet.is_corrupt
        return was_marked or self._was_marked


class PacketQueue:
    """Between one thread that puts and one that gets.

    A live stream is never held up. When what waits is older than half a second and a keyframe comes, all
    before the keyframe is left out; when too much waits without one, everything up to the next keyframe. A
    file is held up instead, and complete.

    The thread that puts does so in a `with` block: when it ends, or raises, so does the other side.
    """

    def __init__(self) -> None:
        self.live = True
        self.dropped = 0
        """Packets left out so far."""
        self._lock = threading.RLock()
        self._changes = Changes(self._lock)
        self._parcels: deque[Parcel] = deque()
        self._closed = self._cancelled = self._needs_keyframe = False
        self._problem: BaseException | None = None

    def __enter__(self) -> PacketQueue:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> bool:
        """End of a thread: what it raised is raised in the thread that gets."""
        with self._lock:
            self._problem, self._closed = problem, True
            self._changes.notify_all()
        return True

    @property
    def cancelled(self) -> bool:
        """Whether nobody wants anything any more."""
        return self._cancelled

    def cancel(self) -> None:
        """Want nothing any more: both sides end. From any thread."""
        with self._lock:
            self._cancelled = True
            self._parcels.clear()
            self._changes.notify_all()

    def put(self, packet: Any, arrival: Arrival, *, keyframe: bool, corrupt: bool = False) -> None:
        """Add a packet; waits for room if this is a file."""
        while True:
            with self._lock:
                seen = self._changes.count
                if self._cancelled:
                    return
                if self.live or len(self._parcels) < _MOST_FILE_PACKETS:
                    self._add(Parcel(packet, arrival, corrupt=corrupt), keyframe)
                    return
                change = self._changes.register(seen)
            change.wait()

    def get(self) -> Parcel | None:
        """Take the next packet, as soon as there is one; None at the end, or when cancelled."""
        while True:
            with self._lock:
                seen = self._changes.count
                if self._parcels or self._closed or self._cancelled:
                    return self._oldest()
                change = self._changes.register(seen)
            change.wait()

    @property
    def waiting(self) -> int:
        """Packets that wait."""
        return len(self._parcels)

    def _add(self, parcel: Parcel, keyframe: bool) -> None:
        restart = self.live and self._make_room(keyframe)
        if self._needs_keyframe and not keyframe:
            self.dropped += 1
            return
        self._needs_keyframe = False
        self._parcels.append(replace(parcel, restart=restart))
        self._changes.notify_all()

    def _oldest(self) -> Parcel | None:
        if self._cancelled:
            return None
        if self._parcels:
            parcel = self._parcels.popleft()
            self._changes.notify_all()
            return parcel
        if self._problem is not None:
            raise self._problem
        return None

    def _make_room(self, keyframe: bool) -> bool:
        """Whether the packet that comes is the first after some that were left out."""
        stale = bool(self._parcels) and time.monotonic() - self._parcels[0].arrival.captured_s > _BACKLOG_S
        full = len(self._parcels) >= _MOST_PACKETS
        if full or (stale and keyframe):
            self.dropped += len(self._parcels)
            self._parcels.clear()
            self._needs_keyframe = True
        return self._needs_keyframe and keyframe
