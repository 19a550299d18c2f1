"""A short call at an RTSP server's door, which can be broken off at once and says why nobody opens."""

from __future__ import annotations

import errno
import select
import socket
import time
from collections.abc import Callable
from contextlib import closing

from pixelrt.errors import UnusableSource
from pixelrt.video.sources.network.line import keep_apart
from pixelrt.video.sources.network.reasons import UNREACHABLE
from pixelrt.video.sources.network.settings import STANDARD_PORTS, NetworkSettings

_STEP_S = 0.1


def knock(settings: NetworkSettings, cancelled: Callable[[], bool]) -> None:
    """Ask an RTSP server for its options; returns silently when cancelled.

    FFmpeg's own connecting cannot be broken off before its time is over. Only a server that answers here is
    worth it.

    Raises:
        OSError: If nobody answers: the name is unknown, the port closed, the host silent.
        UnusableSource: If something else than RTSP answers.
    """
    port = settings.port or STANDARD_PORTS[settings.scheme]
    until_s = time.monotonic() + settings.connect_s
    found = socket.getaddrinfo(settings.host, port, type=socket.SOCK_STREAM)
    problem: OSError | None = None
    for family, kind, protocol, _, address in found:
        with closing(socket.socket(family, kind, protocol)) as sock:
            keep_apart(sock)
            sock.setblocking(False)
            try:
                _connect(sock, address, until_s, cancelled)
                if settings.scheme == "rtsp":
                    _ask(sock, settings, port, until_s, cancelled)
            except OSError as failed:
                if problem is None or failed.errno not in UNREACHABLE:  # what another address said tells more
                    problem = failed
            else:
                return
    raise problem or TimeoutError


def _connect(
    sock: socket.socket, address: tuple[object, ...], until_s: float, cancelled: Callable[[], bool]
) -> None:
    number = sock.connect_ex(address)
    if number == errno.EINPROGRESS:
        if not _ready(sock, until_s, cancelled, write=True):
            return
        number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if number:
        raise OSError(number, "")


def _ask(
    sock: socket.socket, settings: NetworkSettings, port: int, until_s: float, cancelled: Callable[[], bool]
) -> None:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    request = f"OPTIONS rtsp://{host}:{port}/ RTSP/1.0\r\nCSeq: 1\r\n\r\n"
    if not _ready(sock, until_s, cancelled, write=True):
        return
    sock.sendall(request.encode())
    answer = b""
    while len(answer) < len(b"RTSP/"):
        if not _ready(sock, until_s, cancelled, write=False):
            return
        data = sock.recv(4096)
        if not data:
            raise ConnectionResetError
        answer += data
    if not answer.startswith(b"RTSP/"):
        raise UnusableSource(
            f"{settings.shown}: what listens there answers, and not in RTSP (it says {answer[:24]!r}); "
            "cameras speak RTSP on port 554, or as their web page says"
        )


def _ready(sock: socket.socket, until_s: float, cancelled: Callable[[], bool], *, write: bool) -> bool:
    """Wait for a socket; False when cancelled.

    Raises:
        TimeoutError: If the time is over.
    """
    poll = select.poll()
    poll.register(sock, select.POLLOUT if write else select.POLLIN)
    while not cancelled():
        if poll.poll(_STEP_S * 1e3):
            return True
        if time.monotonic() > until_s:
            raise TimeoutError
    return False
