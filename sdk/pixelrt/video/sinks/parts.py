"""Recordings in parts: `out.mp4`, `out-2.mp4`, ... A part that is finished stays, whatever comes after it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from pixelrt.errors import SinkError
from pixelrt.video.delivery import Delivery
from pixelrt.video.sinks.base import BaseSink
from pixelrt.video.sinks.places import Read, check_places
from pixelrt.video.sources.address import number

read_seconds: Callable[[str], float] = number(0.1, 1e7, "seconds")
"""Reads the option `segment`."""


class Part(Protocol):
    """One file of a recording."""

    @property
    def kept(self) -> Path | None:
        """Where it is if it could not be finished and is kept all the same."""

    def write(self, delivery: Delivery) -> None:
        """Take one result."""

    def close(self) -> bool:
        """Finish it. Safe to call twice; false if nothing came, and there is no file."""

    def abort(self) -> None:
        """Give up."""


class PartedSink(BaseSink, ABC):
    """A recording that begins a new file when its content asks for it, or after some time.

    Args:
        path: Of the first part.
        segment_s: Begin a new part after so many seconds; None for one part.
        sources: What is read, so that no part overwrites it.
    """

    def __init__(self, path: Path, *, segment_s: float | None = None, sources: Sequence[Read] = ()) -> None:
        self.path = path
        self._segment_s, self._sources = segment_s, sources
        self._finished: list[Path] = []
        self._kept: list[Path] = []
        self._part: Part | None = None
        self._began_s: float | None = None

    def write(self, delivery: Delivery) -> None:
        """Take one result, in a new part where it does not belong into the present one.

        Raises:
            SinkError: If it cannot be written; the message says what is kept.
        """
        now_s = self._clock_s(delivery)
        if self._part is not None and (self._is_over(now_s) or not self._fits(self._part, delivery)):
            self._finish_part()
        if self._part is None:
            self._part = self._begin(self._next_path(), delivery)
        # a clock that went back does not make a part longer
        self._began_s = now_s if self._began_s is None else min(self._began_s, now_s)
        try:
            self._part.write(delivery)
        except SinkError as problem:
            raise self._with_kept(problem) from problem

    def close(self) -> tuple[Path, ...]:
        """Finish the last part.

        Raises:
            SinkError: If it cannot be finished; the message says what is kept.
        """
        self._finish_part()
        return (*self._finished, *self._kept)

    def abort(self) -> None:
        """Give up the present part; those before it stay."""
        if self._part is not None:
            self._part.abort()
            self._note_kept(self._part)
            self._part = None

    @abstractmethod
    def _begin(self, path: Path, delivery: Delivery) -> Part:
        """Open a part for a result and those that follow."""

    @abstractmethod
    def _clock_s(self, delivery: Delivery) -> float:
        """The time of a result by the clock of the recording, in seconds."""

    def _fits(self, part: Part, delivery: Delivery) -> bool:
        """Whether a result belongs into a part."""
        return True

    def _is_over(self, now_s: float) -> bool:
        began_s = now_s if self._began_s is None else self._began_s
        return self._segment_s is not None and now_s - began_s >= self._segment_s

    def _finish_part(self) -> None:
        part, self._part, self._began_s = self._part, None, None
        if part is None:
            return
        path = self._next_path()
        try:
            if part.close():
                self._finished.append(path)
        except SinkError as problem:
            self._note_kept(part)
            raise self._with_kept(problem) from problem

    def _next_path(self) -> Path:
        """Where the present part goes, or the next one.

        Raises:
            SinkError: If something is read from there.
        """
        number = len(self._finished) + 1
        path = self.path if number == 1 else self.path.with_stem(f"{self.path.stem}-{number}")
        check_places([path], *self._sources)
        return path

    def _note_kept(self, part: Part) -> None:
        if part.kept is not None:
            self._kept.append(part.kept)

    def _with_kept(self, problem: SinkError) -> SinkError:
        if not self._finished:
            return problem
        return SinkError(f"{problem}; kept: {', '.join(map(str, self._finished))}")
