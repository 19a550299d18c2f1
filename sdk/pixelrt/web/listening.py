"""The socket on which the page is served."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket

from pixelrt.errors import SinkError

_BACKLOG = 128
FROZEN_MS = 30_000
"""A peer that takes nothing of what was sent to it for so long is gone, as far as the kernel is concerned."""
_SILENT_S = 20
"""So long after the last word the kernel asks whether the peer's machine is still there."""
_WAYS_OUT = {
    errno.EADDRINUSE: "another program listens there; stop it, or take another port (0: any that is free)",
    errno.EACCES: "ports below 1024 need privileges; take another one, such as 8080",
    errno.EADDRNOTAVAIL: "no address of this machine; 127.0.0.1 is this machine alone, 0.0.0.0 all of it",
}


def listen(host: str, port: int) -> socket.socket:
    """Listen for TCP connections, whose peers are given up when they are gone or frozen.

    Args:
        host: Address or name.
        port: 0 takes one that is free.

    Raises:
        SinkError: If that is impossible; says what to do.
    """
    family, _, _, _, address = _resolved(host, port)[0]
    listening = socket.socket(family, socket.SOCK_STREAM)
    with contextlib.ExitStack() as failing:
        failing.callback(listening.close)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        _give_up_dead_peers(listening)
        try:
            listening.bind(address)
            listening.listen(_BACKLOG)
        except OSError as problem:
            way_out = _WAYS_OUT.get(problem.errno or 0, "choose another address or port")
            raise SinkError(
                f"the live page cannot be served on port {port} of {host} "
                f"({os.strerror(problem.errno or 0)}): {way_out}"
            ) from problem
        listening.setblocking(False)
        failing.pop_all()
    return listening


def is_private(listening: socket.socket) -> bool:
    """Whether only this machine can connect."""
    return ipaddress.ip_address(listening.getsockname()[0]).is_loopback


def address_of(listening: socket.socket) -> str:
    """Under which a browser finds it: `127.0.0.1:8080`, or the machine's own address where it takes all."""
    host, port = listening.getsockname()[:2]
    address = ipaddress.ip_address(host)
    if address.is_unspecified:
        host = _own_address() or socket.gethostname()
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _resolved(host: str, port: int) -> list[tuple[int, int, int, str, tuple[str | int, ...]]]:
    try:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)  # type: ignore[return-value]
    except (OSError, UnicodeError) as problem:
        raise SinkError(
            f"the live page cannot be served on {host!r}: this machine knows no such name or address; "
            "127.0.0.1 is this machine alone, 0.0.0.0 all of it"
        ) from problem


def _give_up_dead_peers(listening: socket.socket) -> None:
    """Connections inherit it. One that was cut off would hold its memory for a quarter of an hour."""
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    limits = {"TCP_USER_TIMEOUT": FROZEN_MS, "TCP_KEEPIDLE": _SILENT_S, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}
    for name, value in limits.items():
        if hasattr(socket, name):  # Linux has all of them
            listening.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _own_address() -> str | None:
    """Of the interface that leads out; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # reserved for documentation
        except OSError:
            return None
        return str(probe.getsockname()[0])
