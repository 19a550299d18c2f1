"""Results for the Rerun viewer: live, or as an `.rrd` file."""

from __future__ import annotations

import datetime
import os
import re
import socket
import threading
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from pixelrt.dependency import require
from pixelrt.encoding import Draft
from pixelrt.errors import MisspeltSink, SinkError
from pixelrt.video.delivery import Delivery
from pixelrt.video.sinks.base import BaseSink
from pixelrt.video.sinks.content import (
    CONTENT_READERS,
    Content,
    FrameClock,
    camera_jpeg,
    overlay_jpeg,
    topic_of,
)
from pixelrt.video.sinks.kinds import SinkOptions
from pixelrt.video.sinks.recording import Recording, RecordingOptions, open_recording
from pixelrt.video.sources.address import parse_address

PORT = 9876
"""Where Rerun's viewer listens."""
_PURPOSE = "writing for Rerun"
_PATIENCE_S = 5.0
_FLUSH_S = 2.0
_BATCH_BYTES = 32 << 20
_LEAST_FREE_BYTES = 2 * _BATCH_BYTES


class _Log:
    """Writes results into a recording of Rerun.

    Rerun keeps what it cannot get rid of, without a limit, and prints errors instead of raising them: who
    writes must `flush` now and then. Each time begins new chunks, and of those Rerun keeps a list for the end
    of a file: the rarer, the better.

    Args:
        content: What is written.
        clock: When frames were taken.
        tick_s: How often chunks are written by themselves; None for as soon as Rerun likes.
    """

    def __init__(self, content: Content, clock: FrameClock, *, tick_s: float | None = None) -> None:
        self._rerun: Any = require("rerun", "rerun", _PURPOSE)
        self._content, self._clock = content, clock
        batches = None
        if tick_s is not None:
            tick = datetime.timedelta(seconds=tick_s)
            batches = self._rerun.ChunkBatcherConfig(flush_tick=tick, flush_num_bytes=_BATCH_BYTES)
        self.recording: Any = self._rerun.RecordingStream("pixelrt", batcher_config=batches)
        self._roots: dict[str, str] = {}

    def write(self, delivery: Delivery) -> None:
        frame, result, content = delivery.frame, delivery.result, self._content
        root = self._root(delivery)
        self.recording.set_time("time", timestamp=np.datetime64(self._clock.taken_ns(frame), "ns"))
        self.recording.set_time("frame", sequence=frame.index)
        if content.camera:
            self._picture(f"{root}/camera", camera_jpeg(frame, content.quality))
        if content.mask:
            mask = result.mask_at(frame.size)
            self.recording.log(f"{root}/mask", self._rerun.SegmentationImage(mask), strict=True)
        if content.overlay:
            self._picture(f"{root}/overlay", overlay_jpeg(delivery, content.quality))
        self._numbers(f"{root}/coverage", list(result.coverage().values()))
        self._numbers(f"{root}/latency_ms", list(delivery.times.ages_ms.values()))

    def flush(self, what: str) -> None:
        """Wait until everything is written; Rerun does not say what it was that failed.

        Raises:
            SinkError: If that does not happen.
        """
        try:
            self.recording.flush(timeout_sec=_PATIENCE_S)
        except RuntimeError as problem:
            raise SinkError(f"{what} ({str(problem).rstrip('.')})") from problem

    def leave(self) -> None:
        """End the recording.

        Rerun may wait for ever for a file that it could not write; that is left to a thread of its own.
        """
        leaving = threading.Thread(target=self.recording.disconnect, name="rerun", daemon=True)
        leaving.start()
        leaving.join(2 * _PATIENCE_S)

    def _root(self, delivery: Delivery) -> str:
        source = delivery.frame.source
        if source not in self._roots:
            self._roots[source] = topic_of(source, list(self._roots.values()))
            self._describe(self._roots[source], delivery)
        return self._roots[source]

    def _describe(self, root: str, delivery: Delivery) -> None:
        """Names and colours, once for all results of a source."""
        classes = delivery.result.classes
        names, colors = [info.name for info in classes], [info.color for info in classes]
        labels = list(zip(range(len(classes)), names, colors, strict=True))
        shares = self._rerun.SeriesLines(names=names, colors=colors)
        ages = self._rerun.SeriesLines(names=list(delivery.times.ages_ms))
        for place, what in (
            (root, self._rerun.AnnotationContext(labels)),
            (f"{root}/coverage", shares),
            (f"{root}/latency_ms", ages),
        ):
            self.recording.log(place, what, static=True, strict=True)

    def _picture(self, place: str, jpeg: bytes) -> None:
        picture = self._rerun.EncodedImage(contents=jpeg, media_type="image/jpeg")
        self.recording.log(place, picture, strict=True)

    def _numbers(self, place: str, values: list[float]) -> None:
        self.recording.log(place, self._rerun.Scalars(values), strict=True)


class RerunViewer(BaseSink):
    """Shows results in a viewer that runs: `rerun` on this machine or another.

    Per source: `SOURCE/camera`, `SOURCE/mask` with the names and colours of the classes, `SOURCE/overlay`,
    `SOURCE/coverage` (a line per class) and `SOURCE/latency_ms` (a line per stage).

    Args:
        host: Where the viewer runs: a name or an address, that of IPv6 in brackets.
        port: Where it listens.
        content: What is shown.
        film: Whether no frame is of a camera: those without a clock have the times of the film then.

    Raises:
        SinkError: If no viewer listens there.
        MissingDependency: If the extra `rerun` is not installed.
    """

    def __init__(
        self, host: str, port: int = PORT, *, content: Content | None = None, film: bool = False
    ) -> None:
        content = content or Content()
        self.wants_overlay = content.overlay
        self._place = f"rerun://{host}:{port}"
        self._log: _Log | None = _Log(content, FrameClock(time.time_ns() if film else None))
        try:
            socket.create_connection((host.strip("[]"), port), timeout=_PATIENCE_S).close()
        except OSError as problem:
            raise SinkError(
                f"{self._place}: no viewer listens there ({problem.strerror or problem}); "
                "start it with: rerun"
            ) from problem
        self._log.recording.connect_grpc(f"rerun+http://{host}:{port}/proxy")

    def write(self, delivery: Delivery) -> None:
        """Show a result.

        Raises:
            SinkError: If the viewer has gone, or takes nothing for 5 s.
        """
        if self._log is not None:
            self._log.write(delivery)
            self._log.flush(f"{self._place}: the viewer has gone, or takes nothing")

    def close(self) -> tuple[Path, ...]:
        """Leave the viewer, which keeps what it has."""
        self.abort()
        return ()

    def abort(self) -> None:
        """Leave the viewer."""
        log, self._log = self._log, None
        if log is not None:
            log.leave()


class RerunFile(Recording):
    """The same as `RerunViewer` in a file, which appears under its name when it is closed.

    Args:
        path: Of the file, or of its first part.
        options: What is recorded, and how.
        taken: Places of others, where no part goes.

    Raises:
        SinkError: If the file cannot be made.
        MissingDependency: If the extra `rerun` is not installed.
    """

    def __init__(
        self, path: Path, *, options: RecordingOptions | None = None, taken: Collection[Path] = ()
    ) -> None:
        require("rerun", "rerun", _PURPOSE)
        super().__init__(path, options=options, taken=taken)

    def _begin(self, path: Path, delivery: Delivery) -> _RrdPart:
        return _RrdPart(path, self._options, self._new_clock())


class _RrdPart:
    """One file."""

    def __init__(self, path: Path, options: RecordingOptions, clock: FrameClock) -> None:
        self._path = path
        self._draft = Draft(path, keep=options.keep)
        self._flushed_s = time.monotonic()
        self._log: _Log | None = _Log(options.content, clock, tick_s=_FLUSH_S)
        self._log.recording.save(self._draft.hidden)

    @property
    def kept(self) -> Path | None:
        return self._draft.kept

    def write(self, delivery: Delivery) -> None:
        if self._log is not None:
            self._check_space()
            self._log.write(delivery)
            self._flush_in_time(self._log)

    def close(self) -> bool:
        if self._log is not None:
            self._log.flush(f"{self._path} cannot be written")
            self._log.leave()
            self._log = None
            try:
                self._draft.finish()
            except OSError as problem:
                raise self._failed(problem) from problem
        return True

    def _flush_in_time(self, log: _Log) -> None:
        now_s = time.monotonic()
        if now_s - self._flushed_s >= _FLUSH_S:
            log.flush(f"{self._path} cannot be written")
            self._flushed_s = now_s
            try:
                self._draft.sync()
            except OSError as problem:
                raise self._failed(problem) from problem

    def _check_space(self) -> None:
        """Stop while there is room for an end: Rerun does not come back from a full disk."""
        disk = os.statvfs(self._path.parent)
        if disk.f_bavail * disk.f_frsize < _LEAST_FREE_BYTES:
            raise self._failed(f"less than {_LEAST_FREE_BYTES >> 20} MiB are left on its disk")

    def abort(self) -> None:
        log, self._log = self._log, None
        if log is not None:
            log.leave()
        self._draft.give_up()

    def _failed(self, problem: OSError | str) -> SinkError:
        self.abort()
        reason = problem if isinstance(problem, str) else problem.strerror
        return SinkError(f"{self._path} cannot be written ({reason}); {self._draft.left}")


def open_viewer(uri: str, options: SinkOptions) -> RerunViewer:
    """Open a viewer: `rerun://`, `rerun://192.168.1.7:9876?overlay=yes`.

    Raises:
        SinkError: If the address or an option cannot be used, or no viewer listens there.
    """
    address = parse_address(uri, error=MisspeltSink)
    place = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:/]*)(?::([^:/]*))?/?", address.rest)
    if place is None:
        raise MisspeltSink(
            f"{uri}: {address.rest!r} is no address, expected such as rerun://192.168.1.7:{PORT}"
        )
    host, port = place[1], place[2] or str(PORT)
    if not (port.isdecimal() and 0 < int(port) < 65_536):
        raise MisspeltSink(f"{uri}: {port!r} is no port, expected 1 to 65535, such as rerun://{host}:{PORT}")
    content = Content(**address.options(CONTENT_READERS, MisspeltSink))
    return RerunViewer(host or "127.0.0.1", int(port), content=content, film=not options.live)


def open_rrd(uri: str, options: SinkOptions) -> RerunFile:
    """Open a file: `out.rrd?camera=no&overlay=yes&segment=600`.

    Raises:
        SinkError: If an option is unknown, or the file cannot be made.
    """
    return open_recording(RerunFile, uri, options)
