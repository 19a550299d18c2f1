"""The socket that FFmpeg opened, so that its waiting on it can be ended.

FFmpeg waits for data until its own time is over, and nobody can call it back. It does come back when its
socket is shut down. The socket is found among those that this process opened meanwhile (Linux, in
/proc/self/fd); it is used only when there is no doubt which one it is.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path

_TABLE = Path("/proc/self/fd")


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


def line_to(host: str, port: int, before: dict[str, int]) -> socket.socket | None:
    """A second handle of the one TCP socket to a host that was opened since; None if there is doubt.

    Args:
        host: Its name or address.
        port: Of the host.
        before: `open_sockets()` of a time when it was not open.
    """
    with suppress(OSError):
        addresses = {entry[4][0] for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
        found = []
        for identity, number in open_sockets().items():
            handle = None if identity in before else _handle_to(number, port, addresses)
            if handle is not None:
                found.append(handle)
        if len(found) == 1:
            return found[0]
        for handle in found:
            handle.close()
    return None


def hang_up(line: socket.socket) -> None:
    """Shut it down: whoever waits for data on it gets the end."""
    with suppress(OSError):
        line.shutdown(socket.SHUT_RDWR)


def _handle_to(number: int, port: int, addresses: set[str | int]) -> socket.socket | None:
    try:
        handle = socket.socket(fileno=os.dup(number))
    except OSError:  # closed meanwhile
        return None
    with suppress(OSError):
        peer = handle.getpeername()
        if handle.type == socket.SOCK_STREAM and peer[1] == port and peer[0] in addresses:
            return handle
    handle.close()
    return None
