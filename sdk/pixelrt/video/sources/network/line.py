"""The socket that FFmpeg opened, so that its waiting on it can be ended.

FFmpeg waits for data until its own time is over, and nobody can call it back. It does come back when its
socket is shut down. The socket is found among those that this process opened meanwhile (Linux, in
/proc/self/fd); it is used only when there is no doubt which one it is.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

_TABLE = Path("/proc/self/fd")
_TURN_S = 1.0
"""A connection that has no socket after this is not waited for; then there is doubt."""
_QUEUE_S = 5.0
"""Nor is any after this: several to a host that does not answer would each wait for those before."""
_LOOK_S = 0.01
_LOCK = threading.Lock()
_LATEST: dict[tuple[str, int], Opening] = {}
"""By host and port: the opening that has its turn. Read and written with the lock held, as all below."""
_KNOWN: set[str] = set()
"""Sockets of which it is known whose they are."""


def open_sockets() -> dict[str, int]:
    """File descriptors of all sockets of this process, by what identifies each; empty where nobody knows."""
    sockets = {}
    with suppress(FileNotFoundError):
        for entry in _TABLE.iterdir():
            with suppress(OSError):
                identity = os.readlink(entry)
                if identity.startswith("socket:"):
                    sockets[identity] = int(entry.name)
    return sockets


class Opening:
    """A context in which FFmpeg opens a connection, whose TCP socket is then `line`.

    Several may be opened to one host at the same time. They begin one after another, each as soon as the
    socket of the one before is there, so that each knows its own.

    Args:
        host: Its name or address.
        port: Of the host.
        cancelled: Whether nobody waits for the connection any more.
    """

    line: socket.socket | None = None
    """A second handle of the socket; None if there is none, or there is doubt which one it is."""

    def __init__(self, host: str, port: int, cancelled: Callable[[], bool] = lambda: False) -> None:
        self._place, self._cancelled = (host, port), cancelled
        self._addresses: set[str | int] = set()
        self._before: dict[str, int] = {}
        self._identity: str | None = None
        self._is_open = False
        self._turn_s = 0.0

    def __enter__(self) -> Opening:
        self._addresses = _addresses(*self._place)
        until_s = time.monotonic() + _QUEUE_S
        while not self._begin(anyway=time.monotonic() > until_s or self._cancelled()):
            time.sleep(_LOOK_S)
        return self

    def __exit__(self, *exception: object) -> None:
        with _LOCK:
            known = self._look()
            self._is_open = False
            if _LATEST.get(self._place) is self:
                del _LATEST[self._place]
            if known and exception[0] is None:
                found = self._found()
                self.line = found.pop(self._identity, None) if self._identity else None
                _close(found)

    def hang_up(self) -> None:
        """Shut the socket down, in the block and after it, where it is known. From any thread."""
        with _LOCK:
            if self.line is not None:
                hang_up(self.line)
            elif self._is_open and self._look():
                found = self._found()
                for identity, handle in found.items():
                    if identity == self._identity:
                        hang_up(handle)
                _close(found)

    def _begin(self, *, anyway: bool) -> bool:
        """Take the turn, if the one before has its socket."""
        with _LOCK:
            last = _LATEST.get(self._place)
            is_overdue = last is None or time.monotonic() > last._turn_s + _TURN_S
            if last is not None and not (last._look() or is_overdue or anyway):
                return False
            self._before = open_sockets()
            self._turn_s = time.monotonic()
            _KNOWN.intersection_update(self._before)
            _LATEST[self._place] = self
            self._is_open = True
            return True

    def _look(self) -> bool:
        """Whether its socket is known by now."""
        found = self._found()
        if self._identity not in found:  # FFmpeg may have opened another one, for an address it was sent to
            new = found.keys() - _KNOWN
            self._identity = new.pop() if len(new) == 1 else None
            _KNOWN.update(filter(None, [self._identity]))
        _close(found)
        return self._identity is not None

    def _found(self) -> dict[str, socket.socket]:
        """Handles of the sockets to the host that were opened since."""
        handles = {
            identity: _handle_to(number, self._place[1], self._addresses)
            for identity, number in open_sockets().items()
            if identity not in self._before
        }
        return {identity: handle for identity, handle in handles.items() if handle is not None}


def keep_apart(sock: socket.socket) -> None:
    """Take a socket, which is not connected yet, for none of FFmpeg's."""
    with _LOCK:
        _KNOWN.add(f"socket:[{os.fstat(sock.fileno()).st_ino}]")


def hang_up(line: socket.socket) -> None:
    """Shut it down: whoever waits for data on it gets the end."""
    with suppress(OSError):
        line.shutdown(socket.SHUT_RDWR)


def _close(handles: dict[str, socket.socket]) -> None:
    for handle in handles.values():
        handle.close()


def _addresses(host: str, port: int) -> set[str | int]:
    with suppress(OSError):
        return {entry[4][0] for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    return set()


def _handle_to(number: int, port: int, addresses: set[str | int]) -> socket.socket | None:
    try:
        duplicate = os.dup(number)
    except OSError:  # closed meanwhile
        return None
    try:
        handle = socket.socket(fileno=duplicate)
    except OSError:  # closed meanwhile, and its number is that of a file now
        os.close(duplicate)
        return None
    with suppress(OSError):
        peer = handle.getpeername()
        if handle.type == socket.SOCK_STREAM and peer[1] == port and peer[0] in addresses:
            return handle
    handle.close()
    return None
