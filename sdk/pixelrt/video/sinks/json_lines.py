"""One JSON object per frame and line: to standard output, or into a file."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from pixelrt.encoding import give_name, keep_unfinished, temporary_for
from pixelrt.errors import SinkError
from pixelrt.video.delivery import Delivery
from pixelrt.video.sinks.base import BaseSink
from pixelrt.video.sinks.kinds import SinkOptions
from pixelrt.video.sinks.parts import PartedSink, read_seconds
from pixelrt.video.sinks.places import Read
from pixelrt.video.sources.address import parse_path, switch

if TYPE_CHECKING:
    from pixelrt.video.live.statistics import StreamView

STDOUT = "jsonl:"


class Lines:
    """Makes the lines; knows how many frames of a source were dropped, where a stream is attached."""

    stream: StreamView | None = None

    def line(self, delivery: Delivery) -> str:
        """The result of a frame as JSON, with its line feed."""
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
            values["dropped"] = self._dropped(self.stream, frame.source)
        return json.dumps(values, ensure_ascii=False, allow_nan=False) + "\n"

    def _dropped(self, stream: StreamView, source: str) -> dict[str, int]:
        """Frames that were dropped so far, by reason."""
        for each in stream.statistics().sources:
            if each.name == source:
                return dict(each.dropped)
        return {}


class StandardOutput(BaseSink):
    """Lines on standard output, each as soon as its result is there.

    Where whoever reads them has gone, `write` raises BrokenPipeError, as printing does. A run of files ends
    with it; a live one, in which other sinks go on, does when they do.
    """

    name = STDOUT

    def __init__(self) -> None:
        self._lines = Lines()
        self.reader_is_gone = False

    def __enter__(self) -> StandardOutput:
        return self

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
            sys.stdout.write(self._lines.line(delivery))
            sys.stdout.flush()
        except BrokenPipeError as problem:
            self.reader_is_gone = True
            raise BrokenPipeError("whoever read standard output has gone") from problem
        except (OSError, ValueError) as problem:
            reason = getattr(problem, "strerror", None) or problem
            raise SinkError(f"standard output cannot be written ({reason})") from problem


@dataclass(frozen=True, slots=True, kw_only=True)
class LinesOptions:
    """The options of the URI."""

    segment: float | None = None
    """Begin a new file after so many seconds."""
    keep: bool = False
    """Whether what was written outlives an error and a full disk, as `out-unfinished.jsonl`."""


class JsonLines(PartedSink):
    """Lines in a file, which appears under its name when it is closed; each is handed to the disk at once.

    Args:
        path: Of the file, or of its first part.
        options: How it is written.
        sources: What is read, so that no part overwrites it.

    Raises:
        SinkError: If there is no folder to write into.
    """

    def __init__(
        self, path: Path, *, options: LinesOptions | None = None, sources: Sequence[Read] = ()
    ) -> None:
        self._options, self._lines = options or LinesOptions(), Lines()
        super().__init__(path, segment_s=self._options.segment, sources=sources)
        temporary_for(path)

    def __enter__(self) -> JsonLines:
        return self

    def attach(self, stream: StreamView) -> None:
        """See the stream, for the frames that it drops."""
        self._lines.stream = stream

    def _begin(self, path: Path, delivery: Delivery) -> _LinesPart:
        return _LinesPart(path, self._lines, keep=self._options.keep)

    def _clock_s(self, delivery: Delivery) -> float:
        return delivery.frame.time_s


class _LinesPart:
    """One file."""

    kept: Path | None = None

    def __init__(self, path: Path, lines: Lines, *, keep: bool) -> None:
        self._path, self._lines, self._keep = path, lines, keep
        self._temporary = temporary_for(path)
        self._good_bytes = 0
        try:
            self._stream: IO[bytes] = self._temporary.open("wb", buffering=0)
        except OSError as problem:
            raise self._failed(problem) from problem

    def write(self, delivery: Delivery) -> None:
        line = memoryview(self._lines.line(delivery).encode())
        try:
            left = line
            while left:
                left = left[self._stream.write(left) :]
        except OSError as problem:
            raise self._failed(problem) from problem
        self._good_bytes += len(line)

    def close(self) -> bool:
        if not self._stream.closed:
            try:
                self._stream.close()
                give_name(self._temporary, self._path)
            except OSError as problem:
                raise self._failed(problem) from problem
        return True

    def abort(self) -> None:
        """Keep whole lines where that was asked for, else nothing."""
        with contextlib.suppress(OSError):
            if self._keep and self._good_bytes and not self._stream.closed:
                self._stream.truncate(self._good_bytes)
                self.kept = keep_unfinished(self._temporary, self._path)
        with contextlib.suppress(OSError):
            self._stream.close()
        with contextlib.suppress(OSError):  # a disk that is read only holds nothing to remove
            self._temporary.unlink(missing_ok=True)

    def _failed(self, problem: OSError) -> SinkError:
        if hasattr(self, "_stream"):
            self.abort()
        left = f"what came before is in {self.kept}" if self.kept else "nothing half-written was left"
        return SinkError(f"{self._path} cannot be written ({problem.strerror}); {left}")


def open_stdout(uri: str, options: SinkOptions) -> StandardOutput:
    """Open `jsonl:` or `-`, standard output.

    Raises:
        SinkError: If something follows the colon.
    """
    if uri not in (STDOUT, "-"):
        raise SinkError(f"{uri}: nothing follows {STDOUT}, which is standard output; a file is out.jsonl")
    return StandardOutput()


def open_lines(uri: str, options: SinkOptions) -> JsonLines:
    """Open a file: `out.jsonl?segment=600`.

    Raises:
        SinkError: If an option is unknown, or the file cannot be made.
    """
    address = parse_path(uri, error=SinkError)
    given = {
        "keep": any(source.live for source in options.sources),
        **address.options({"segment": read_seconds, "keep": switch}, SinkError),
    }
    return JsonLines(Path(address.rest), options=LinesOptions(**given), sources=options.sources)
