"""One JSON object per frame and line: to standard output, or into a file."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pixelrt.encoding import Draft
from pixelrt.errors import MisspeltSink, SinkError
from pixelrt.terminal import say_at_once
from pixelrt.video.delivery import Delivery
from pixelrt.video.sinks.base import BaseSink
from pixelrt.video.sinks.kinds import SinkOptions
from pixelrt.video.sinks.parts import PART_READERS, PartedSink, PartOptions
from pixelrt.video.sources.address import parse_path

if TYPE_CHECKING:
    from pixelrt.video.live.statistics import StreamView

STDOUT = "jsonl:"
_READ_EVERY_S = 0.25


class Lines:
    """Makes the lines; knows how many frames of a source were dropped, where a stream is attached.

    That is read four times a second: it takes a stream longer than a line takes.
    """

    def __init__(self) -> None:
        self.stream: StreamView | None = None
        self._read_s = -float("inf")
        self._dropped: dict[str, Mapping[str, int]] = {}

    def line(self, delivery: Delivery, encoding: str = "utf-8") -> str:
        """The result of a frame as JSON, with its line feed.

        Args:
            delivery: The result.
            encoding: Of where it goes. What that cannot hold is escaped: file names may be no text at all.
        """
        frame, result = delivery.frame, delivery.result
        values: dict[str, Any] = {
            "source": frame.source,
            "index": frame.index,
            "name": frame.name,
            "time_s": round(frame.time_s, 6),
            "clock_s": frame.clock_s,
            "ages_ms": {stage: round(age, 3) for stage, age in delivery.times.ages_ms.items()},
            "frame_size": frame.size,
            "network_size": delivery.size,
            "coverage": {name: round(share, 6) for name, share in result.coverage().items()},
        }
        if self.stream is not None:
            values["dropped"] = dict(self._dropped_by_source(self.stream).get(frame.source, {}))
        line = json.dumps(values, ensure_ascii=False, allow_nan=False) + "\n"
        try:
            line.encode(encoding)
        except UnicodeEncodeError:
            return json.dumps(values, allow_nan=False) + "\n"
        return line

    def _dropped_by_source(self, stream: StreamView) -> Mapping[str, Mapping[str, int]]:
        """Frames that were dropped, by reason; a quarter of a second ago at most."""
        now_s = time.monotonic()
        if now_s - self._read_s >= _READ_EVERY_S:
            self._dropped = {each.name: each.dropped for each in stream.statistics().sources}
            self._read_s = now_s
        return self._dropped


class StandardOutput(BaseSink):
    """Lines on standard output, each as soon as its result is there.

    Where whoever reads them has gone, `write` raises BrokenPipeError, as printing does. A run of files ends
    with it; a live one, in which other sinks go on, does when they do. Where nobody reads for a while,
    `write` waits, and nothing else does.
    """

    wants_picture = False
    name = STDOUT

    def __init__(self) -> None:
        self._lines = Lines()
        self.reader_is_gone = False

    def attach(self, stream: StreamView) -> None:
        """See the stream, for the frames that it drops."""
        self._lines.stream = stream

    def write(self, delivery: Delivery) -> None:
        """Print a line.

        Raises:
            BrokenPipeError: If nobody reads standard output any more.
            SinkError: If it cannot be written otherwise: it may be a file on a full disk.
        """
        try:
            say_at_once(self._lines.line(delivery, getattr(sys.stdout, "encoding", None) or "utf-8"))
        except BrokenPipeError as problem:
            self.reader_is_gone = True
            raise BrokenPipeError("whoever read standard output has gone") from problem
        except (OSError, ValueError) as problem:
            reason = getattr(problem, "strerror", None) or problem
            raise SinkError(f"standard output cannot be written ({reason})") from problem


class JsonLines(PartedSink):
    """Lines in a file, which appears under its name when it is closed; each is handed to the disk at once.

    Args:
        path: Of the file, or of its first part.
        options: How it is written.
        taken: Places of others, where no part goes.

    Raises:
        SinkError: If there is no folder to write into.
    """

    wants_picture = False

    def __init__(
        self, path: Path, *, options: PartOptions | None = None, taken: Collection[Path] = ()
    ) -> None:
        self._lines = Lines()
        super().__init__(path, options=options, taken=taken)

    def attach(self, stream: StreamView) -> None:
        """See the stream, for the frames that it drops."""
        self._lines.stream = stream

    def _begin(self, path: Path, delivery: Delivery) -> _LinesPart:
        return _LinesPart(path, self._lines, keep=self._parts.keep)


class _LinesPart:
    """One file."""

    def __init__(self, path: Path, lines: Lines, *, keep: bool) -> None:
        self._path, self._lines = path, lines
        self._draft = Draft(path, keep=keep)
        self._good_bytes = 0
        self._stream = self._draft.open()

    @property
    def kept(self) -> Path | None:
        return self._draft.kept

    def write(self, delivery: Delivery) -> None:
        line = memoryview(self._lines.line(delivery).encode())
        try:
            left = line
            while left:
                left = left[self._stream.write(left) :]
            self._good_bytes += len(line)
            self._draft.sync()
        except OSError as problem:
            raise self._failed(problem) from problem

    def close(self) -> bool:
        if not self._stream.closed:
            try:
                self._stream.close()
                self._draft.finish()
            except OSError as problem:
                raise self._failed(problem) from problem
        return True

    def abort(self) -> None:
        """Keep whole lines where that was asked for, else nothing."""
        with contextlib.suppress(OSError):
            if not self._stream.closed:
                self._stream.truncate(self._good_bytes)
        with contextlib.suppress(OSError):
            self._stream.close()
        self._draft.give_up(worth=self._good_bytes > 0)

    def _failed(self, problem: OSError) -> SinkError:
        self.abort()
        return SinkError(f"{self._path} cannot be written ({problem.strerror}); {self._draft.left}")


def open_stdout(uri: str, options: SinkOptions) -> StandardOutput:
    """Open `jsonl:` or `-`, standard output.

    Raises:
        SinkError: If something follows the colon.
    """
    if uri not in (STDOUT, "-"):
        raise MisspeltSink(f"{uri}: nothing follows {STDOUT}, which is standard output; a file is out.jsonl")
    return StandardOutput()


def open_lines(uri: str, options: SinkOptions) -> JsonLines:
    """Open a file: `out.jsonl?segment=600`.

    Raises:
        SinkError: If an option is unknown, or the file cannot be made.
    """
    address = parse_path(uri, error=MisspeltSink)
    given = {"keep": options.live, **address.options(PART_READERS, MisspeltSink)}
    return JsonLines(Path(address.rest), options=PartOptions(**given), taken=options.taken)
