"""Why a connection could not be made, or broke, in words that help."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from typing import Any

from pixelrt.errors import SourceError, UnusableSource
from pixelrt.video.sources.network.settings import ENCRYPTED, NetworkSettings

_NO_TLS = (
    "no encrypted connection came about; does the server speak TLS on that port, and does this machine trust "
    "who made its certificate? (#verify=no takes any certificate: cameras often make their own)"
)
_NOT_FOUND = "the server has nothing at that path (404)"
UNREACHABLE = (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN, errno.EHOSTDOWN)


def no_connection(av: Any, problem: Exception, settings: NetworkSettings, waited_s: float) -> SourceError:
    """What to raise for an error of FFmpeg or of a socket while connecting.

    Those errors hold the address with its password: they are never shown, nor chained.

    Args:
        av: PyAV.
        problem: The error.
        settings: Of the connection.
        waited_s: How long it took to fail.
    """
    for kinds, text in _hopeless(av, settings):
        if isinstance(problem, kinds):
            return UnusableSource(f"{settings.shown}: {text}")
    return SourceError(f"{settings.shown}: {_why_not(av, problem, settings, waited_s)}")


def _why_not(av: Any, problem: Exception, settings: NetworkSettings, waited_s: float) -> str:
    reasons = _reasons(av, problem, settings, waited_s)
    return next((text for holds, text in reasons if holds), f"cannot be opened ({_words(problem)})")


def _reasons(
    av: Any, problem: Exception, settings: NetworkSettings, waited_s: float
) -> Iterator[tuple[bool, str]]:
    """Whether each holds, looked at one after another: some take their time."""
    number = getattr(problem, "errno", None)
    timed_out = isinstance(problem, (TimeoutError, av.ExitError)) or waited_s >= settings.connect_s
    yield isinstance(problem, socket.gaierror), _unknown_host(settings)
    yield (
        isinstance(problem, ConnectionRefusedError),
        "connection refused: nothing listens on that port; is the camera on, and the port right?",
    )
    yield number in UNREACHABLE, f"{settings.place} cannot be reached from here; check cable and network"
    yield (
        number == errno.EADDRINUSE,
        "another program on this machine receives on that port; use another one",
    )
    yield (
        isinstance(problem, av.HTTPNotFoundError),
        (
            f"{_NOT_FOUND}; the camera's manual says which it has, and a relay has it once somebody sends "
            "there" + ("" if settings.persistence.wait else " (#wait=yes waits for that)")
        ),
    )
    yield timed_out, _silence(settings)
    yield (
        isinstance(problem, (av.InvalidDataError, av.DemuxerNotFoundError)),
        "what comes from there is no video that FFmpeg knows; is that the address of the stream?",
    )
    yield (
        isinstance(problem, (ConnectionError, EOFError)),
        "the connection was closed at once; is that the right port?",
    )
    yield not _is_known(settings), _unknown_host(settings)
    yield settings.scheme in ENCRYPTED, _NO_TLS
    yield number == errno.EIO, "what comes from there is no video, or the connection broke at once"


def _silence(settings: NetworkSettings) -> str:
    if settings.scheme == "udp":
        return (
            f"nothing came within {settings.connect_s:g} s; is it sent to this machine and port, and does "
            "the firewall let it in? (#connect=SECONDS waits longer)"
        )
    return (
        f"no answer within {settings.connect_s:g} s; is the camera on, and the address right? "
        "(#connect=SECONDS waits longer)"
    )


def broken(problem: Exception, settings: NetworkSettings) -> SourceError:
    """What to raise for an error of FFmpeg in the midst of a stream."""
    return SourceError(f"{settings.shown}: the connection broke ({_words(problem)})")


def _hopeless(av: Any, settings: NetworkSettings) -> list[tuple[tuple[type[Exception], ...], str]]:
    """What waiting does not change."""
    scheme = settings.scheme
    no_film = f"{_NOT_FOUND}; is it spelt right? (#live=yes says that it is a camera)"
    return [
        ((av.HTTPNotFoundError,) if settings.is_film else (), no_film),
        (
            (av.HTTPUnauthorizedError,),
            (
                "the camera wants a user and a password, or refuses those given (401); "
                f"write {scheme}://user:password@{settings.place}{_port(settings)}/..."
            ),
        ),
        ((av.HTTPForbiddenError,), "the camera forbids it to this user (403)"),
        (
            (av.ProtocolNotFoundError,),
            (
                f"the FFmpeg of this PyAV was built without {scheme}://; read the camera by another "
                "protocol, or install a PyAV that was built against an FFmpeg with it"
            ),
        ),
    ]


def _port(settings: NetworkSettings) -> str:
    return "" if settings.port is None else f":{settings.port}"


def _words(problem: Exception) -> str:
    return str(getattr(problem, "strerror", None) or type(problem).__name__)


def _unknown_host(settings: NetworkSettings) -> str:
    return f"no host of the name {settings.place} is known here; check its spelling, or give its number"


def _is_known(settings: NetworkSettings) -> bool:
    try:
        socket.getaddrinfo(settings.host or None, settings.port or 80)
    except socket.gaierror:
        return False
    return True
