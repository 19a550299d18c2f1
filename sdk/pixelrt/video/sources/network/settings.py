"""What an address on the network says, without its secrets wherever people see it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from pixelrt.errors import MisspeltSource
from pixelrt.manifest import ColorOrder
from pixelrt.video.sources.address import number, one_of, parse_address, scheme_of, switch
from pixelrt.video.sources.base import SourceOptions
from pixelrt.video.sources.hiding import HIDDEN, without_secrets
from pixelrt.video.sources.pictures import FILMS
from pixelrt.video.sources.reconnecting import Backoff, Persistence

SCHEMES = ("rtsp", "rtsps", "http", "https", "udp", "tcp", "rtmp", "rtmps", "srt")
RTSP = ("rtsp", "rtsps")
ALWAYS_LIVE = ("rtsp", "rtsps", "udp", "tcp", "rtmp", "rtmps", "srt")
ENCRYPTED = ("rtsps", "https", "rtmps")
STANDARD_PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443, "rtmp": 1935, "rtmps": 443}
_NEEDS_PORT = ("udp", "tcp", "srt")
DATAGRAMS = ("udp", "srt")
"""Without a TCP connection."""
_OF_SOME = ("transport", "live", "verify")
"""Options that not every scheme has."""

_ESCAPES = "a '#', '@', '/', '?' or '[' in a user or password is written %23, %40, %2F, %3F, %5B"


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSettings:
    """One address and its options."""

    url: str = field(repr=False)
    """For FFmpeg alone: it may hold a password."""
    shown: str
    """For people: the same without secrets."""
    name: str
    """Of the source; can be part of a file name."""
    scheme: str
    host: str
    port: int | None
    transport: str = "tcp"
    """Of RTSP: tcp, udp or auto."""
    connect_s: float = 5.0
    """In which each step of connecting must be done."""
    stall_s: float = 5.0
    """Without data of a frame, after which the connection is given up."""
    live: bool | None = None
    """None: found out when it is opened."""
    verify: bool = True
    """Whether certificates are checked."""
    persistence: Persistence
    fps: float
    """Nominal, for streams that do not say."""
    color: ColorOrder

    @property
    def place(self) -> str:
        """The host for messages and addresses; what is no secret for sure."""
        if self.host not in self.shown:
            return "HOST"
        return f"[{self.host}]" if ":" in self.host else self.host

    @property
    def is_film(self) -> bool:
        """Whether it is one by its address, or as was said."""
        if self.live is not None:
            return not self.live
        return urlsplit(self.url).path.lower().endswith(FILMS)

    @property
    def lossy(self) -> bool:
        """Whether what is sent may get lost."""
        return self.scheme == "udp" or (self.scheme in RTSP and self.transport != "tcp")


def read_settings(text: str, options: SourceOptions) -> NetworkSettings:
    """Take a network address apart.

    Raises:
        MisspeltSource: If it has no host, no port where one is needed, or unknown options.
    """
    url, _, behind = text.partition("#")
    scheme = scheme_of(url) or ""
    if not text.isprintable() or " " in url:
        raise MisspeltSource(
            f"{without_secrets(url)!r}: a space or a character that cannot be seen stands in it; "
            "write a space as %20, and others likewise"
        )
    if "@" in behind:
        raise MisspeltSource(
            f"{scheme}://{HIDDEN}: there is an '@' behind a '#', and options stand there; {_ESCAPES}"
        )
    shown = without_secrets(url)
    if _is_ambiguous(url):
        raise MisspeltSource(
            f"{shown}: there is an '@' behind its first '/' or '?', which may be the password's; {_ESCAPES}"
        )
    host, port = _place(url, shown, scheme)
    address = parse_address(f"{shown}#{behind}" if behind else shown, network=True)
    values = address.options(_readers(scheme), elsewhere=_OF_SOME)
    return NetworkSettings(
        url=url,
        shown=shown,
        name=re.sub(r"[^A-Za-z0-9.]+", "-", shown.partition("://")[2]).strip("-.") or scheme,
        scheme=scheme,
        host=host,
        port=port,
        fps=options.fps,
        color=options.color,
        live=_liveness(scheme, values.pop("live", "auto")),
        persistence=_persistence(values, shown, wait=options.wait),
        **values,
    )


def _is_ambiguous(url: str) -> bool:
    """Whether a part of a password may be taken for the host, and be asked for in the network's directory."""
    rest = url.partition("://")[2]
    place = re.split("[/?]", rest, maxsplit=1)[0]
    return ":" in place and "@" in rest[len(place) :]


def _place(url: str, shown: str, scheme: str) -> tuple[str, int | None]:
    parts = _parts(url)
    if parts is None:
        raise MisspeltSource(
            f"{shown}: expected {scheme}://user:password@host:port/path, with a port up to 65535; {_ESCAPES}"
        )
    host, port = parts
    if not _can_be_host(host):
        raise MisspeltSource(
            f"{shown}: no host has such a name; its parts have 1 to 63 letters, digits and hyphens"
        )
    if not host and scheme != "udp":
        raise MisspeltSource(
            f"{shown}: there is no host in it; expected {scheme}://host{_port_hint(scheme)}/..."
        )
    if port is None and scheme in _NEEDS_PORT:
        raise MisspeltSource(f"{shown}: there is no port in it; expected {shown}:5000")
    return host, port


def _parts(url: str) -> tuple[str, int | None] | None:
    """Host and port; None if they cannot be told. The reason, which may hold the password, is left out."""
    try:
        parts = urlsplit(url)
        place = parts.hostname or "", parts.port
    except ValueError:
        return None
    return place


def _can_be_host(name: str) -> bool:
    try:
        name.encode("idna")
    except UnicodeError:
        return False
    return True


def _port_hint(scheme: str) -> str:
    return ":port" if scheme in _NEEDS_PORT else ""


def _readers(scheme: str) -> Mapping[str, Any]:
    readers: dict[str, Any] = {
        "connect": number(0.1, 600, "seconds"),
        "stall": number(0.1, 600, "seconds"),
        "reconnect": switch,
        "wait": switch,
        "backoff": number(0.001, 3600, "seconds"),
        "backoff_most": number(0.001, 3600, "seconds"),
    }
    if scheme in RTSP:
        readers["transport"] = one_of("tcp", "udp", "auto")
    if scheme in ("http", "https"):
        readers["live"] = one_of("yes", "no", "auto")
    if scheme in ENCRYPTED:
        readers["verify"] = switch
    return readers


def _liveness(scheme: str, choice: str) -> bool | None:
    if scheme in ALWAYS_LIVE:
        return True
    return {"yes": True, "no": False, "auto": None}[choice]


def _persistence(values: dict[str, Any], shown: str, *, wait: bool) -> Persistence:
    """Takes its options out of `values`; the rest has the names of the settings."""
    for short, name in (("connect", "connect_s"), ("stall", "stall_s")):
        if short in values:
            values[name] = values.pop(short)
    first_s = values.pop("backoff", 0.5)
    most_s = values.pop("backoff_most", max(10.0, first_s))
    if first_s > most_s:
        raise MisspeltSource(f"{shown}: backoff={first_s:g} is above backoff_most={most_s:g}")
    return Persistence(
        reconnect=values.pop("reconnect", True),
        wait=values.pop("wait", wait),
        backoff=Backoff(first_s=first_s, most_s=most_s),
    )
