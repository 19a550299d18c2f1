"""One connection, opened by FFmpeg for little delay."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from pixelrt.encoding import FASTEST_FPS, SLOWEST_FPS
from pixelrt.errors import SourceError, SourceStalled, UnusableSource
from pixelrt.video.sources.network.knock import knock
from pixelrt.video.sources.network.line import Opening
from pixelrt.video.sources.network.packets import Arrival
from pixelrt.video.sources.network.reasons import broken, no_connection
from pixelrt.video.sources.network.settings import (
    ALWAYS_LIVE,
    DATAGRAMS,
    ENCRYPTED,
    RTSP,
    STANDARD_PORTS,
    NetworkSettings,
)
from pixelrt.video.sources.network.timeline import FilmTimeline, Timeline

_LOOK_US = 200_000
"""How long FFmpeg looks at a stream to know it; the default, 5 s of film, would be waited for."""
_AT_ONCE_S = 0.002
_LISTS = ("hls", "dash", "concat", "tty", "image2", "sdp")
"""Formats that name other addresses, or are no video."""
_WHITELISTS = {  # what comes from there cannot make this machine open files or other addresses
    "rtsp": "rtsp,rtp,udp,tcp",
    "rtsps": "rtsps,rtp,srtp,udp,tcp,tls",
    "http": "http,https,tcp,tls",
    "https": "http,https,tcp,tls",
    "rtmp": "rtmp,tcp",
    "rtmps": "rtmps,rtmp,tcp,tls",
}
_PARSED = ("h264", "hevc", "mpeg4", "mpeg2video", "mpeg1video", "vvc", "av1", "h263", "vc1")


@dataclass(frozen=True, slots=True)
class Connection:
    """An open stream of packets."""

    av: Any
    container: Any
    stream: Any
    live: bool
    fps: float
    num_frames: int | None
    timed: bool
    """Whether packets have times. In a format without any (MJPEG over HTTP) FFmpeg makes some up."""
    opened_s: float
    """When FFmpeg began to open it: nothing that it gives is older."""
    opening_s: float
    """How long that took."""
    settings: NetworkSettings

    def timeline(self) -> Timeline | FilmTimeline:
        """What gives its pictures their times."""
        if not self.live:
            return FilmTimeline(self.fps)
        return Timeline(counts=self.timed, opened_s=self.opened_s, opening_s=self.opening_s)

    def packets(self, cancelled: Callable[[], bool]) -> Iterator[tuple[Any, Arrival]]:
        """Packets as they come, each with its time; ends with a file, or when cancelled.

        Raises:
            SourceStalled: If none came for too long.
            SourceError: If the connection broke, or the server closed a live stream.
        """
        arrivals = _Arrivals(self)
        failure: SourceError
        try:
            for packet in self._demuxed():
                if cancelled():
                    return
                if packet.stream is not self.stream:  # else PyAV passes over them, as long as they come
                    self._check(arrivals, packet)
                    continue
                if packet.size:
                    yield packet, arrivals.of(packet)
                arrivals.asked()
        except self.av.ExitError:
            if cancelled():
                return
            failure = SourceStalled(f"{self.settings.shown}: no frame for {self.settings.stall_s:g} s")
        except (self.av.FFmpegError, OSError) as problem:
            failure = broken(problem, self.settings)
        else:
            if cancelled() or not self.live:
                return
            failure = SourceError(f"{self.settings.shown}: the server closed the stream")
        raise failure

    def _demuxed(self) -> Iterator[Any]:
        with suppress(IndexError):  # PyAV's at the end, where there are more streams than at the beginning
            yield from self.container.demux()

    def _check(self, arrivals: _Arrivals, other: Any) -> None:
        """A packet of another stream came: refuse to wait for the picture while the sound goes on."""
        if self.live and arrivals.waited_s > self.settings.stall_s:
            raise SourceStalled(
                f"{self.settings.shown}: no frame for {self.settings.stall_s:g} s, while {other.stream.type} "
                "still comes"
            )


class _Arrivals:
    """When the first data of each packet were there.

    A demuxer that cuts a stream into pictures gives one when it sees the next begin: the moment when it gave
    the one before is when this one began to come. Packets that were there before anyone asked came while the
    connection was opened: they are taken to be as old as it is.
    """

    def __init__(self, connection: Connection) -> None:
        self._opened_s = connection.opened_s
        self._buffered = connection.live
        behind = _pictures_behind(connection) if connection.live else 0
        self._returned_s = [connection.opened_s] * (behind + 1)
        self._asked_s = time.monotonic()

    def asked(self) -> None:
        """The next packet is asked for now."""
        self._asked_s = time.monotonic()

    @property
    def waited_s(self) -> float:
        """Since it was asked for."""
        return time.monotonic() - self._asked_s

    def of(self, packet: Any) -> Arrival:
        """The packet is there now."""
        now_s = time.monotonic()
        self._buffered = self._buffered and now_s - self._asked_s < _AT_ONCE_S
        self._returned_s = [*self._returned_s[1:], self._opened_s if self._buffered else now_s]
        return Arrival(self._returned_s[0], _clock_s(packet))


def _pictures_behind(connection: Connection) -> int:
    """How many pictures later a demuxer gives one. Measured with pictures that carry their time."""
    if connection.stream.codec_context.name not in _PARSED:
        return 0
    return {"mpegts": 2, "h264": 1, "hevc": 1, "rtsp": 1}.get(connection.container.format.name, 0)


def _clock_s(packet: Any) -> float | None:
    """The camera's clock, which RTSP derives from RTCP sender reports: microseconds since 1970."""
    if not packet.has_sidedata("prft"):
        return None
    micros: int = struct.unpack_from("=q", bytes(packet.get_sidedata("prft")))[0]
    return micros / 1e6


def opening_of(settings: NetworkSettings, cancelled: Callable[[], bool]) -> Opening:
    """What knows the socket of a connection, for `connected`."""
    if settings.scheme in DATAGRAMS:
        return Opening("", 0, cancelled)
    return Opening(settings.host, settings.port or STANDARD_PORTS.get(settings.scheme, 0), cancelled)


@contextmanager
def connected(
    av: Any, settings: NetworkSettings, opening: Opening, cancelled: Callable[[], bool]
) -> Iterator[Connection | None]:
    """Open a connection and close it again; None if it was cancelled meanwhile.

    Raises:
        SourceError: If it cannot be opened: which step failed, and why.
    """
    began_s = opened_s = time.monotonic()
    failure: SourceError | None = None
    container: Any = None
    try:
        if settings.scheme in RTSP:
            knock(settings, cancelled)
        if not cancelled():
            queued_s = time.monotonic()
            with opening:
                opened_s = time.monotonic()
                began_s += opened_s - queued_s  # it was the turn of others
                patience_s = settings.connect_s, settings.stall_s
                if not cancelled():
                    container = av.open(settings.url, options=_options(settings), timeout=patience_s)
    except (av.FFmpegError, OSError) as problem:
        failure = no_connection(av, problem, settings, time.monotonic() - began_s)
    if failure is not None:  # raised here, so that FFmpeg's, which holds the password, is not its context
        raise failure
    if container is None:
        yield None
        return
    try:
        yield None if cancelled() else _describe(av, container, settings, opened_s)
    finally:
        container.close()
        if opening.line is not None:
            opening.line.close()


def _options(settings: NetworkSettings) -> dict[str, str]:
    options = {"fpsprobesize": "0", "analyzeduration": str(_LOOK_US)}
    options["protocol_whitelist"] = _WHITELISTS.get(settings.scheme, settings.scheme)
    if settings.scheme in RTSP:
        options["allowed_media_types"] = "video"
        options["buffer_size"] = str(2**21)
        if settings.transport != "auto":
            options["rtsp_transport"] = settings.transport
    if settings.scheme == "udp":
        options |= {"overrun_nonfatal": "1", "buffer_size": str(2**21)}
    if settings.scheme in ENCRYPTED:
        options["tls_verify"] = str(int(settings.verify))
    return options


def _describe(av: Any, container: Any, settings: NetworkSettings, opened_s: float) -> Connection:
    shown = settings.shown
    if container.format.name in _LISTS:
        raise UnusableSource(
            f"{shown}: that is {container.format.long_name}; give the address of the video itself, "
            "by RTSP, MJPEG or MPEG-TS"
        )
    if not container.streams.video:
        kinds = ", ".join(stream.type for stream in container.streams) or "nothing"
        raise UnusableSource(f"{shown}: there is no video in what comes (found: {kinds})")
    stream = container.streams.video[0]
    if stream.codec_context is None:
        raise UnusableSource(f"{shown}: its video is coded in a way this FFmpeg cannot decode; set H.264")
    live = _is_live(container, settings)
    timed = not container.format.flags & av.format.Flags.no_timestamps.value
    fps = float((timed and stream.average_rate) or stream.codec_context.framerate or settings.fps)
    if not SLOWEST_FPS <= fps <= FASTEST_FPS:  # some cameras send a clock rate
        fps = settings.fps
    frames = None if live else stream.frames or None
    opening_s = time.monotonic() - opened_s
    return Connection(av, container, stream, live, fps, frames, timed, opened_s, opening_s, settings)


def _is_live(container: Any, settings: NetworkSettings) -> bool:
    """What has a length or a duration is a file."""
    if settings.live is not None:
        return settings.live
    return settings.scheme in ALWAYS_LIVE or (container.duration is None and container.size <= 0)
