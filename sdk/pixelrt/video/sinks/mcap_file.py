"""Results as an MCAP file that Foxglove shows, and `pixelrt` reads again."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pixelrt.dependency import require
from pixelrt.encoding import give_name, keep_unfinished, temporary_for
from pixelrt.errors import SinkError
from pixelrt.manifest import ClassInfo
from pixelrt.video.delivery import Delivery
from pixelrt.video.sinks.content import CONTENT_READERS, Content, describe, topic_of
from pixelrt.video.sinks.kinds import SinkOptions
from pixelrt.video.sinks.mcap_topics import PURPOSE, SourceTopics
from pixelrt.video.sinks.parts import PartedSink, read_seconds
from pixelrt.video.sinks.places import Read
from pixelrt.video.sources.address import parse_path, switch

_CHUNK_BYTES = 4 << 20
_CHUNK_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class McapOptions:
    """How results are recorded; the options of the URI."""

    content: Content = field(default_factory=Content)
    segment: float | None = None
    """Begin a new file after so many seconds."""
    keep: bool = False
    """Whether what was written outlives an error and a full disk, as `out-unfinished.mcap`."""


class McapSink(PartedSink):
    """Per source: `/SOURCE/camera`, `/SOURCE/mask`, `/SOURCE/overlay`, `/SOURCE/coverage`, `/SOURCE/latency`.

    Times are those of the source's clock, else those of this machine. The file is written under a hidden name
    in compressed chunks of 4 MiB, or of 2 s where that is less, with their own checksums and index, and
    appears under its own when it is closed. After a power cut every whole chunk can be read: `mcap recover`
    makes a file of them, and `bag://.out.mcap.xxxx.tmp` is a source.

    Args:
        path: Of the file, or of its first part.
        options: What is recorded, and how.
        sources: What is read, so that no part overwrites it.

    Raises:
        SinkError: If the file cannot be made.
        MissingDependency: If the extra `foxglove` is not installed.
    """

    def __init__(
        self, path: Path, *, options: McapOptions | None = None, sources: Sequence[Read] = ()
    ) -> None:
        self._options = options or McapOptions()
        super().__init__(path, segment_s=self._options.segment, sources=sources)
        self.wants_overlay = self._options.content.overlay
        require("foxglove", "foxglove", PURPOSE)
        temporary_for(path)

    def __enter__(self) -> McapSink:
        return self

    def _begin(self, path: Path, delivery: Delivery) -> _McapPart:
        return _McapPart(path, self._options)

    def _clock_s(self, delivery: Delivery) -> float:
        return delivery.times.captured_s if delivery.frame.clock_s is None else delivery.frame.clock_s


class _McapPart:
    """One file."""

    kept: Path | None = None

    def __init__(self, path: Path, options: McapOptions) -> None:
        foxglove = require("foxglove", "foxglove", PURPOSE)
        mcap = require("foxglove.mcap", "foxglove", PURPOSE)
        self._path, self._options = path, options
        self._temporary = temporary_for(path)
        self._disk = _Disk(self._temporary, path)
        self._context = foxglove.Context()
        self._topics: dict[str, SourceTopics] = {}
        self._open = True
        self._flushed_s = time.monotonic()
        settings = mcap.MCAPWriteOptions(
            compression=mcap.MCAPCompression.Zstd, chunk_size=_CHUNK_BYTES, compression_threads=0
        )
        self._writer: Any = foxglove.open_mcap(self._disk, context=self._context, writer_options=settings)

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
                give_name(self._temporary, self._path)
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
        return SourceTopics(root, classes, self._context, self._options.content)

    def _flush_in_time(self) -> None:
        now_s = time.monotonic()
        if now_s - self._flushed_s >= _CHUNK_S:
            with contextlib.suppress(RuntimeError):  # the disk knows more
                self._writer.flush()
            self._flushed_s = now_s

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
        left = f"what came before is in {self.kept}" if self.kept else "nothing half-written was left"
        return SinkError(f"{self._path} cannot be written ({problem.strerror}); {left}")

    def _leave(self) -> None:
        """Remove the file, or keep it where that was asked for and something is in it."""
        with contextlib.suppress(OSError):
            self._disk.close()
        with contextlib.suppress(OSError):
            if self._options.keep and self._topics and self._temporary.stat().st_size:
                self.kept = keep_unfinished(self._temporary, self._path)
        with contextlib.suppress(OSError):  # a disk that is read only holds nothing to remove
            self._temporary.unlink(missing_ok=True)


class _Disk:
    """A file that remembers what went wrong, and then only counts.

    The writer of Foxglove prints an error of its file, and goes on.
    """

    def __init__(self, temporary: Path, path: Path) -> None:
        self.problem: OSError | None = None
        self._at = self._end = 0
        try:
            self._stream = temporary.open("wb", buffering=0)
        except OSError as problem:
            raise SinkError(f"{path} cannot be written ({problem.strerror})") from problem

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
    """Open an MCAP file: `out.mcap?camera=no&quality=90&overlay=yes&segment=600`.

    Raises:
        SinkError: If an option is unknown, or the file cannot be made.
    """
    address = parse_path(uri, error=SinkError)
    readers = {**CONTENT_READERS, "segment": read_seconds, "keep": switch}
    given = address.options(readers, SinkError)
    content = Content(**{key: given.pop(key) for key in CONTENT_READERS if key in given})
    keep = any(source.live for source in options.sources)
    chosen = McapOptions(content=content, **{"keep": keep, **given})
    return McapSink(Path(address.rest), options=chosen, sources=options.sources)
