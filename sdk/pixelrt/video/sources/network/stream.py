"""One connection to a camera, as a source: read in one thread, decoded in the one that iterates."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Generator, Iterator, Mapping
from typing import Any

from pixelrt.dependency import require
from pixelrt.interrupts import started
from pixelrt.video.events import Event
from pixelrt.video.frame import Frame
from pixelrt.video.sources.base import BaseSource
from pixelrt.video.sources.lazy import LATE_S
from pixelrt.video.sources.network.connection import Connection, connected, opening_of
from pixelrt.video.sources.network.decoder import Decoder
from pixelrt.video.sources.network.gaps import GapWatch
from pixelrt.video.sources.network.packets import Arrival, DamageMarks, PacketQueue, Parcel
from pixelrt.video.sources.network.patience import Patience
from pixelrt.video.sources.network.settings import NetworkSettings
from pixelrt.video.sources.seldom import Seldom
from pixelrt.video.sources.upright import upright

_LOG = logging.getLogger(__name__)
_FAREWELL_S = 0.1
"""For a reading thread that gets packets, to see that it shall end, and for FFmpeg to say goodbye."""
_HANGING_UP_S = 0.4
"""For FFmpeg, which opens a connection, to see that its socket was shut down."""
_MOST_LEFT = 64
_LEFT: list[threading.Thread] = []
"""Reading threads that nobody waits for: FFmpeg opens a connection there until its time is over."""
_LEFT_LOCK = threading.Lock()


class NetworkStream(BaseSource):
    """Frames of one connection.

    A thread reads packets all the time, so that nothing piles up in the network's buffers however slow the
    iteration is; pictures are decoded in the thread that iterates. One of a live stream that is older than a
    quarter of a second while newer ones wait is decoded and left out, and counted as `replaced`; so are
    packets that were left out unseen, because nobody took one for longer (see `PacketQueue`).

    `interrupt` ends the iteration at once. `close` then waits for the reading thread: until the next packet,
    or, where none comes, a tenth of a second, after which its TCP socket is shut down. What has none
    (`udp://`), and one that cannot be told from others (not on Linux, or after a redirect to another host),
    is waited for until FFmpeg gives up by itself, after `stall_s`. A connection that is still being opened is
    not waited for longer than half a second: its thread then closes it and ends without anybody, after at
    most twice `connect_s`.

    Args:
        settings: Where, and how.
    """

    size: tuple[int, int]
    num_frames: int | None = None

    def __init__(self, settings: NetworkSettings) -> None:
        self._av = require("av", "video", "reading from the network")
        self._settings = settings
        self.name, self.fps, self.live = settings.name, settings.fps, True
        self._queue = PacketQueue()
        self._decoder: Decoder | None = None
        self._connection: Connection | None = None
        self._opening = opening_of(settings, lambda: self._queue.cancelled)
        self._late, self._disordered = 0, 0
        self._damages = Seldom()
        self._patience = Patience(settings)
        self._frames = self._decoded()
        reader = threading.Thread(target=self._read, name=f"read {self.name}", daemon=True)
        self._reader = started(reader)

    def __enter__(self) -> NetworkStream:
        return self

    def __iter__(self) -> Iterator[Frame]:
        return self._frames

    @property
    def losses(self) -> Mapping[str, int]:  # type: ignore[override]
        """Frames that came and were not delivered.

        `replaced` by newer ones, `damaged` (or built on one that is), or `unkeyed`: before a keyframe.
        """
        decoder = self._decoder
        counts = {
            "replaced": self._late + self._queue.dropped + (decoder.replaced if decoder else 0),
            "damaged": self._disordered + (decoder.damaged if decoder else 0),
            "unkeyed": decoder.unkeyed if decoder else 0,
        }
        return {reason: count for reason, count in counts.items() if count}

    def interrupt(self) -> None:
        """End the iteration at once."""
        self.interrupted = True
        self._queue.cancel()

    def close(self) -> None:
        """End the connection and wait for its thread, unless it is still being opened."""
        self.interrupt()
        self._reader.join(_FAREWELL_S)
        if self._reader.is_alive():
            self._opening.hang_up()
            self._reader.join(_HANGING_UP_S)
        if self._connection is not None or not _left_behind(self._reader):
            self._reader.join()
        self._frames.close()

    def _read(self) -> None:
        """The reading thread."""
        queue = self._queue
        with (
            queue,
            connected(self._av, self._settings, self._opening, lambda: queue.cancelled) as connection,
        ):
            if connection is None:
                return
            self._connection, queue.live = connection, connection.live
            marks = DamageMarks()
            for packet, arrival in connection.packets(lambda: queue.cancelled):
                queue.put(packet, arrival, keyframe=packet.is_keyframe, corrupt=marks.corrupt(packet))
                if connection.live and self._decoder is not None:
                    self._patience.check(self._decoder.damaged, self._decoder.unkeyed)

    def _decoded(self) -> Generator[Frame, None, None]:
        """Frames, in the thread that iterates."""
        first = self._queue.get()
        connection = self._connection
        if first is None or connection is None:
            return
        self.live, self.fps, self.num_frames = connection.live, connection.fps, connection.num_frames
        timeline = connection.timeline()
        index = 0
        for picture, arrival in self._pictures(first, connection):
            if self._is_late(arrival):
                self._late += 1
                continue
            time_s = timeline.time_s(_seconds(picture.pts, picture), arrival.captured_s)
            if time_s is None:
                self._disordered += 1
                continue
            yield Frame(
                image=upright(picture, self._settings.color, self._settings.shown),
                index=index,
                time_s=time_s,
                name=f"{self.name}-{index:06d}",
                captured_s=arrival.captured_s if self.live else time.monotonic(),
                clock_s=arrival.clock_s,
                color=self._settings.color,
                source=self.name,
            )
            index += 1

    def _pictures(self, first: Parcel, connection: Connection) -> Iterator[tuple[Any, Arrival]]:
        decoder = self._decoder = Decoder(self._av, connection.stream.codec_context)
        gaps = GapWatch() if self._settings.lossy else None
        parcel: Parcel | None = first
        self._patience.begin()
        while parcel is not None:
            if gaps is not None:
                decoder.miss(_missing(gaps, parcel))
            if pictures := decoder.decode(parcel):
                self._patience.end()
                yield from pictures
                self._patience.begin()
            self._tell_damage(decoder)
            parcel = self._queue.get()
        if not self.interrupted:
            yield from decoder.flush()

    def _is_late(self, arrival: Arrival) -> bool:
        return self.live and self._queue.waiting > 0 and time.monotonic() - arrival.captured_s > LATE_S

    def _tell_damage(self, decoder: Decoder) -> None:
        """Tell of damage, and not too often."""
        if new := self._damages.due(decoder.damaged):
            frames = "1 frame was" if new == 1 else f"{new} frames were"
            detail = f"{frames} left out because of damaged data, up to the next keyframe"
            self.on_event(Event(kind="damaged", source=self.name, detail=detail))


def _left_behind(reader: threading.Thread) -> bool:
    """Leave a thread to itself; False if too many are already."""
    with _LEFT_LOCK:
        _LEFT[:] = [thread for thread in [*_LEFT, reader] if thread.is_alive()]
        if len(_LEFT) > _MOST_LEFT:
            _LEFT.remove(reader)
            return False
    if reader.is_alive():
        _LOG.debug("%s goes on without anybody until FFmpeg gives up connecting", reader.name)
    return True


def _missing(gaps: GapWatch, parcel: Parcel) -> int:
    packet = parcel.packet
    return gaps.missing(_seconds(packet.dts, packet), parcel.arrival.captured_s, restart=parcel.restart)


def _seconds(count: int | None, of: Any) -> float | None:
    return None if count is None else float(count * of.time_base)
