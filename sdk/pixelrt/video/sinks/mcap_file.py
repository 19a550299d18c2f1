"""Results as an MCAP file that Foxglove shows, and `pixelrt` reads again."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Collection
from pathlib import Path
from typing import IO, Any

from pixelrt.dependency import require
from pixelrt.encoding import Draft
from pixelrt.errors import SinkError
from pixelrt.manifest import ClassInfo
from pixelrt.video.delivery import Delivery
from pixelrt.video.sinks.content import Content, FrameClock, describe, topic_of
from pixelrt.video.sinks.kinds import SinkOptions
from pixelrt.video.sinks.mcap_topics import PURPOSE, SourceTopics
from pixelrt.video.sinks.recording import Recording, RecordingOptions, open_recording

_CHUNK_BYTES = 4 << 20
_CHUNK_S = 2.0


class McapSink(Recording):
    """Per source: `/SOURCE/camera`, `/SOURCE/mask`, `/SOURCE/overlay`, `/SOURCE/coverage`, `/SOURCE/latency`.

    Times are those of the source's clock, else those of this machine; of a film those at which it would have
    been taken, had it begun when the recording did. The file is written under a hidden name
    in compressed chunks of 4 MiB, or of 2 s where that is less, with their own checksums and index, and
    appears under its own when it is closed. After a power cut every whole chunk can be read: `mcap recover`
    makes a file of them; the next run calls the hidden file `out-unfinished.mcap`, which is a source.

    Foxglove shows a mask of class ids as nearly black, so overlays are recorded too unless they are left out.

    Args:
        path: Of the file, or of its first part.
        options: What is recorded, and how.
        taken: Places of others, where no part goes.

    Raises:
        SinkError: If the file cannot be made.
        MissingDependency: If the extra `foxglove` is not installed.
    """

    content = Content(overlay=True)

    def __init__(
        self, path: Path, *, options: RecordingOptions | None = None, taken: Collection[Path] = ()
    ) -> None:
        require("foxglove", "foxglove", PURPOSE)
        super().__init__(path, options=options, taken=taken)

    def _begin(self, path: Path, delivery: Delivery) -> _McapPart:
        return _McapPart(path, self._options, self._new_clock())


class _McapPart:
    """One file."""

    def __init__(self, path: Path, options: RecordingOptions, clock: FrameClock) -> None:
        foxglove = require("foxglove", "foxglove", PURPOSE)
        mcap = require("foxglove.mcap", "foxglove", PURPOSE)
        self._path, self._options, self._clock = path, options, clock
        self._draft = Draft(path, keep=options.keep)
        self._disk = _Disk(self._draft.open())
        self._context = foxglove.Context()
        self._topics: dict[str, SourceTopics] = {}
        self._open = True
        self._flushed_s = time.monotonic()
        settings = mcap.MCAPWriteOptions(
            compression=mcap.MCAPCompression.Zstd, chunk_size=_CHUNK_BYTES, compression_threads=0
        )
        self._writer: Any = foxglove.open_mcap(self._disk, context=self._context, writer_options=settings)

    @property
    def kept(self) -> Path | None:
        return self._draft.kept

    def write(self, delivery: Delivery) -> None:
        name = delivery.frame.source
        if name not in self._topics:
            self._topics[name] = self._begin(name, delivery.result.classes)
        self._topics[name].write(delivery)
        self._flush_in_time()
        self._check()

    def close(self) -> bool:
        if self._open:
            self._finish()
            self._check()
            try:
                self._disk.close()
                self._draft.finish()
            except OSError as problem:
                raise self._failed(problem) from problem
        return True

    def abort(self) -> None:
        if self._open:
            self._finish()
            self._leave()

    def _begin(self, source: str, classes: tuple[ClassInfo, ...]) -> SourceTopics:
        root = topic_of(source, [topics.root for topics in self._topics.values()])
        self._writer.write_metadata(f"pixelrt.classes /{root}", {"classes": describe(classes)})
        return SourceTopics(root, classes, self._context, self._options.content, self._clock)

    def _flush_in_time(self) -> None:
        now_s = time.monotonic()
        if now_s - self._flushed_s >= _CHUNK_S:
            with contextlib.suppress(RuntimeError):  # the disk knows more
                self._writer.flush()
            self._flushed_s = now_s
            self._sync()

    def _sync(self) -> None:
        try:
            self._draft.sync()
        except OSError as problem:
            raise self._failed(problem) from problem

    def _finish(self) -> None:
        """Write what is held back and the index; the disk tells whether it worked."""
        self._open = False
        for topics in self._topics.values():
            topics.close()
        with contextlib.suppress(RuntimeError):  # its way to say that the disk failed before
            self._writer.close()

    def _check(self) -> None:
        if self._disk.problem is not None:
            raise self._failed(self._disk.problem) from self._disk.problem

    def _failed(self, problem: OSError) -> SinkError:
        if self._open:
            self._finish()
        self._leave()
        return SinkError(f"{self._path} cannot be written ({problem.strerror}); {self._draft.left}")

    def _leave(self) -> None:
        """Remove the file, or keep it where that was asked for and something is in it."""
        with contextlib.suppress(OSError):
            self._disk.close()
        self._draft.give_up(worth=bool(self._topics))


class _Disk:
    """A file that remembers what went wrong, and then only counts.

    The writer of Foxglove prints an error of its file, and goes on.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self.problem: OSError | None = None
        self._at = self._end = 0
        self._stream = stream

    def write(self, data: bytes) -> int:
        self._at += len(data)
        self._end = max(self._end, self._at)
        left = memoryview(data)
        try:
            while left and self.problem is None:
                left = left[self._stream.write(left) :]
        except OSError as problem:
            self.problem = problem
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if self.problem is None:
            self._at = self._stream.seek(offset, whence)
        else:
            self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._end}[whence]
        return self._at

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        self._stream.close()


def open_mcap(uri: str, options: SinkOptions) -> McapSink:
    """Open an MCAP file: `out.mcap?camera=no&quality=90&overlay=no&segment=600`.

    Raises:
        SinkError: If an option is unknown, or the file cannot be made.
    """
    return open_recording(McapSink, uri, options)
