"""The socket that FFmpeg opened, so that its waiting on it can be ended.

FFmpeg waits for data until its own time is over, and nobody can call it back. It does come back when its
socket is shut down. The socket is found among those that this process opened meanwhile (Linux, in
/proc/self/fd); it is used only when there is no doubt which one it is: when no other connection to that
host could have opened it.
"""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

_TABLE = "/proc/self/fd"
_CONNECTIONS = Path("/proc/self/net/tcp"), Path("/proc/self/net/tcp6")
_SYN_SENT = "02"
_TURN_S = 5.0
"""A connection that has no socket after this is not waited for; then there is doubt."""
_QUEUE_S = 20.0
"""Nor is any after this: several to a host that does not answer would each wait for those before."""
_LOOK_S = 0.01
_LOCK = threading.Lock()
_OPEN: list[Opening] = []
"""Those in their block. Read and written with the lock held, as all below."""
_APART: set[str] = set()
"""Sockets that are none of FFmpeg's."""


def open_sockets() -> dict[str, int]:
    """File descriptors of all sockets of this process, by what identifies each; empty where nobody knows."""
    sockets = {}
    with suppress(FileNotFoundError):
        for number in os.listdir(_TABLE):
            with suppress(OSError):
                identity = os.readlink(f"{_TABLE}/{number}")
                if identity.startswith("socket:"):
                    sockets[identity] = int(number)
    return sockets


class Opening:
    """A context in which FFmpeg opens a connection, whose TCP socket is then `line`.

    Several may be opened to one host at the same time. They begin one after another, each as soon as the one
    before has its socket, connected or not. A socket that comes while one has its turn is its own.

    Args:
        host: Its name or address.
        port: Of the host.
        cancelled: Whether nobody waits for the connection any more; then there is no turn to wait for, and
            nothing must be opened.
    """

    line: socket.socket | None = None
    """A second handle of the socket; None if there is none, or there is doubt which one it is."""

    def __init__(self, host: str, port: int, cancelled: Callable[[], bool] = lambda: False) -> None:
        self._host, self._port, self._cancelled = host, port, cancelled
        self._addresses: set[str | int] = set()
        self._before: set[str] = set()
        self._identity: str | None = None
        self._is_alone = False
        """Whether a new socket can be nobody else's."""
        self._began_s = self._looked_s = 0.0

    def __enter__(self) -> Opening:
        self._addresses = _addresses(self._host, self._port)
        until_s = time.monotonic() + _QUEUE_S
        while not (self._cancelled() or self._begin(anyway=time.monotonic() > until_s)):
            time.sleep(_LOOK_S)
        return self

    def __exit__(self, *exception: object) -> None:
        with _LOCK:
            if self not in _OPEN:
                return
            if exception[0] is not None:  # all that it opened is closed
                _OPEN.remove(self)
                return
            self._look()
            _OPEN.remove(self)
            self.line = self._handle()
            if self.line is None:
                _put_in_doubt(self._others())

    def hang_up(self) -> None:
        """Shut the socket down, in the block and after it, where it is known. From any thread."""
        with _LOCK:
            if self.line is not None:
                hang_up(self.line)
            elif self in _OPEN:
                self._look()
                handle = self._handle()
                if handle is not None:
                    hang_up(handle)
                    handle.close()

    def _begin(self, *, anyway: bool) -> bool:
        """Take the turn, if all before have their sockets."""
        with _LOCK:
            others = self._others()
            rivals = [other for other in others if not other._has_socket()]
            now_s = time.monotonic()
            if not anyway and any(now_s < rival._began_s + _TURN_S for rival in rivals):
                return False
            _put_in_doubt(others)
            self._is_alone = not rivals
            self._before = set(open_sockets())
            self._began_s = now_s
            _APART.intersection_update(self._before)
            _OPEN.append(self)
            return True

    def _others(self) -> list[Opening]:
        """Those that connect to the same host."""
        return [
            other
            for other in _OPEN
            if other is not self and other._port == self._port and other._addresses & self._addresses
        ]

    def _has_socket(self) -> bool:
        """Whether its socket is known, by a look that is shared by all who wait."""
        if self._identity is None and time.monotonic() > self._looked_s + _LOOK_S:
            self._look()
        return self._identity is not None

    def _look(self) -> None:
        """Find its socket."""
        sockets = open_sockets()
        self._looked_s = time.monotonic()
        if self._identity in sockets:
            return
        others = self._others()
        if self._identity is not None:  # FFmpeg opens another one, for an address it was sent to
            self._identity = None
            _put_in_doubt(others)
        if self._is_alone and {other._identity for other in others} - {None} <= sockets.keys():
            new = [
                identity
                for identity in sockets.keys() - self._before - _APART
                if _leads_to(identity, sockets[identity], self._port, self._addresses)
            ]
            self._identity = new[0] if len(new) == 1 else None

    def _handle(self) -> socket.socket | None:
        number = open_sockets().get(self._identity or "")
        return None if number is None else _second_handle(number, self._identity)


def keep_apart(sock: socket.socket) -> None:
    """Take a socket, which is not connected yet, for none of FFmpeg's."""
    with _LOCK:
        _APART.add(_identity(sock.fileno()))


def hang_up(line: socket.socket) -> None:
    """Shut it down: whoever waits for data on it gets the end."""
    with suppress(OSError):
        line.shutdown(socket.SHUT_RDWR)


def _put_in_doubt(openings: Iterable[Opening]) -> None:
    """A socket that comes may be another's from now on."""
    for opening in openings:
        opening._is_alone = False


def _addresses(host: str, port: int) -> set[str | int]:
    if not port:
        return set()
    with suppress(OSError):
        return {entry[4][0] for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    return set()


def _identity(number: int) -> str:
    return f"socket:[{os.fstat(number).st_ino}]"


def _second_handle(number: int, identity: str | None) -> socket.socket | None:
    """A second handle of a socket, unless its number is another's by now."""
    try:
        duplicate = os.dup(number)
    except OSError:  # closed meanwhile
        return None
    with suppress(OSError):
        if _identity(duplicate) == identity:
            return socket.socket(fileno=duplicate)
    os.close(duplicate)
    return None


def _leads_to(identity: str, number: int, port: int, addresses: set[str | int]) -> bool:
    """Whether it is a TCP socket to that host, connected or, where none else can be meant, not yet."""
    handle = _second_handle(number, identity)
    if handle is None:
        return False
    with handle:
        if handle.type != socket.SOCK_STREAM or handle.family not in (socket.AF_INET, socket.AF_INET6):
            return False
        with suppress(OSError):
            peer = handle.getpeername()
            return peer[1] == port and peer[0] in addresses
    if len(addresses) > 1:  # to one of several FFmpeg opens several
        return False
    return any((identity, address, port) in _connecting() for address in addresses)


def _connecting() -> Iterator[tuple[str, str | int, int]]:
    """Sockets that are being connected, with the address and the port (proc_pid_net(5))."""
    for table in _CONNECTIONS:
        with suppress(OSError):
            for line in table.read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _SYN_SENT:
                    words, _, port = fields[2].partition(":")
                    yield f"socket:[{fields[9]}]", _address(words), int(port, 16)


def _address(words: str) -> str:
    """Of the kernel's table: a number of 32 bits, or four, in hexadecimal digits, as they lie in memory."""
    packed = b"".join(struct.pack("=I", int(words[at : at + 8], 16)) for at in range(0, len(words), 8))
    return socket.inet_ntop(socket.AF_INET6 if len(packed) > 4 else socket.AF_INET, packed)
