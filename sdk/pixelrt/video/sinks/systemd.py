"""`systemd:`, which tells systemd that results come: readiness, the watchdog, and a line of status."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

from pixelrt.errors import MisspeltSink, SinkError
from pixelrt.video.delivery import Delivery
from pixelrt.video.sinks.base import BaseSink
from pixelrt.video.sinks.kinds import SinkOptions

if TYPE_CHECKING:
    from pixelrt.video.live.statistics import StreamView

_PERIOD_S = 1.0
_PER_WATCHDOG = 3
"""Reports in the time after which systemd takes a service for dead."""
_STATUS_BYTES = 1000
"""Systemd ignores a message of more than 4096 bytes, the watchdog in it too."""


class SystemdSink(BaseSink):
    """Speaks the protocol of `sd_notify`, for a service with `Type=notify` and, if wanted, `WatchdogSec=`.

    The service is ready with its first result. From then on systemd hears of results once a second, or three
    times in `WatchdogSec=` where that is less than 3 s, as long as they come; when none came for
    `WatchdogSec=`, whatever the reason, it starts the service again.

    Args:
        address: Of systemd's socket: a path, or an abstract name that begins with `@`.
        watchdog_s: What `WatchdogSec=` says; None without one.

    Raises:
        SinkError: If nobody listens there.
    """

    wants_picture = False
    name = "systemd:"

    def __init__(self, address: str, watchdog_s: float | None = None) -> None:
        self._stream: StreamView | None = None
        self._period_s = _PERIOD_S if watchdog_s is None else min(_PERIOD_S, watchdog_s / _PER_WATCHDOG)
        self._next_s = -float("inf")
        self._is_ready = False
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        place = f"\0{address[1:]}" if address.startswith("@") else address
        try:
            self._socket.connect(place)
        except OSError as problem:
            self._socket.close()
            raise SinkError(f"systemd: nobody listens at {address} ({problem.strerror})") from problem

    def attach(self, stream: StreamView) -> None:
        """See the stream, for the line of status."""
        self._stream = stream

    def write(self, delivery: Delivery) -> None:
        """Tell that a result has come, unless systemd was told a moment ago.

        Raises:
            SinkError: If systemd cannot be told.
        """
        if time.monotonic() < self._next_s:
            return
        self._next_s = time.monotonic() + self._period_s
        ready = [] if self._is_ready else ["READY=1"]
        self._tell(*ready, "WATCHDOG=1", f"STATUS={_one_line(self._status(delivery))}")
        self._is_ready = True

    def close(self) -> tuple[Path, ...]:
        """Tell that the service ends."""
        if self._socket.fileno() != -1:
            try:
                self._tell("STOPPING=1")
            finally:
                self._socket.close()
        return ()

    def abort(self) -> None:
        """Say nothing more: the exit code tells what happened."""
        self._socket.close()

    def _status(self, delivery: Delivery) -> str:
        """For `systemctl status`."""
        age = f"results are {delivery.age_ms:.0f} ms old"
        if self._stream is None:
            return age
        health = self._stream.health
        why = f": {health.why}" if health.why else ""  # last, since it may be long
        return f"{health.state}, {self._stream.statistics().fps:.1f} fps, {age}{why}"

    def _tell(self, *lines: str) -> None:
        try:
            self._socket.send("\n".join(lines).encode(errors="replace"))
        except OSError as problem:
            raise SinkError(f"systemd: it cannot be told of results ({problem.strerror})") from problem


def _one_line(text: str) -> str:
    """A text as systemd takes it: what follows a line feed would be another message."""
    content = " ".join(text.split()).encode(errors="replace")
    return content[:_STATUS_BYTES].decode(errors="ignore")


def _watchdog_s() -> float | None:
    given = os.environ.get("WATCHDOG_USEC", "")
    return int(given) / 1e6 if given.isdecimal() and int(given) else None


def open_systemd(uri: str, options: SinkOptions) -> SystemdSink:
    """Open `systemd:`.

    Raises:
        SinkError: If something follows the colon, or this is no service with `Type=notify`.
    """
    if uri != "systemd:":
        raise MisspeltSink(f"{uri}: nothing follows systemd:; write systemd: alone")
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        raise SinkError(
            "systemd: is for a service of systemd with Type=notify, and NOTIFY_SOCKET is not set; "
            "leave it away where a person starts this"
        )
    return SystemdSink(address, _watchdog_s())
