"""Recordings in parts: `out.mp4`, `out-2.mp4`, ... A part that is finished stays, whatever comes after it.

A part never takes the place of a file that is there, except the first one of a recording that is neither kept
nor in segments: a recorder that is started again goes on behind the highest number.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pixelrt.encoding import (
    explained,
    is_being_written,
    real_place,
    rescue,
    temporary_for,
    writing_progress,
)
from pixelrt.errors import SinkError
from pixelrt.terminal import complain
from pixelrt.video.delivery import Delivery
from pixelrt.video.frame import Frame
from pixelrt.video.sinks.base import BaseSink
from pixelrt.video.sinks.places import behind_links
from pixelrt.video.sources.address import number, switch

read_seconds: Callable[[str], float] = number(0.1, 1e7, "seconds")
"""Reads the option `segment`."""


PART_READERS: dict[str, Callable[[str], Any]] = {"segment": read_seconds, "keep": switch}
"""Of the options of a URI, by the fields of `PartOptions`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartOptions:
    """What holds for every recording; options of its URI."""

    segment: float | None = None
    """Begin a new file after so many seconds."""
    keep: bool = False
    """Whether what was written outlives an error and a full disk, as `out-unfinished.mp4`, and no file that
    is there is replaced."""

    @property
    def replaces(self) -> bool:
        """Whether the first part takes the place of a file that is there."""
        return self.segment is None and not self.keep


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

    What killed processes left of it gets names that are seen, and is told on standard error.

    Args:
        path: Of the first part.
        options: How parts begin, and whether they replace what is there.
        taken: Places of others, behind all links, where no part goes.

    Raises:
        SinkError: If something is there that is no file.
    """

    def __init__(
        self, path: Path, *, options: PartOptions | None = None, taken: Collection[Path] = ()
    ) -> None:
        self.path = real_place(path) if path.is_symlink() else path
        self._parts = options or PartOptions()
        self._taken = frozenset(taken)
        self._finished: list[Path] = []
        self._kept: list[Path] = []
        self._part: Part | None = None
        self._problem: SinkError | None = None
        self._part_path = self.path
        self._number = 0
        self._began_s: dict[str, float] = {}
        """By source: `time_s` of its first frame in the present part."""
        temporary_for(self._first()[0])  # found out before the first frame
        for found in rescue(self.path):
            complain(f"{found} is what a run that was killed left; it is kept")

    def write(self, delivery: Delivery) -> None:
        """Take one result, in a new part where it does not belong into the present one.

        Raises:
            SinkError: If it cannot be written; the message says what is kept. Nothing more is taken then: the
                next call raises it again.
        """
        if self._problem is not None:
            raise SinkError(str(self._problem)) from self._problem
        try:
            self._write(delivery)
        except SinkError as problem:
            self.abort()
            self._problem = self._with_kept(problem)
            raise self._problem from problem

    def close(self) -> tuple[Path, ...]:
        """Finish the last part.

        Raises:
            SinkError: If it cannot be finished; the message says what is kept.
        """
        try:
            self._finish_part()
        except SinkError as problem:
            raise self._with_kept(problem) from problem
        return self.remains()

    def abort(self) -> None:
        """Give up the present part; those before it stay."""
        if self._part is not None:
            self._part.abort()
            self._note_kept(self._part)
            self._part = None

    def remains(self) -> tuple[Path, ...]:
        """The parts that are finished, and what is kept of others."""
        return (*self._finished, *self._kept)

    def progress(self) -> object:
        """How far the file of the present part is."""
        return writing_progress(self._part_path)

    @abstractmethod
    def _begin(self, path: Path, delivery: Delivery) -> Part:
        """Open a part for a result and those that follow."""

    def _write(self, delivery: Delivery) -> None:
        frame = delivery.frame
        if self._part is not None and (self._is_over(frame) or not self._fits(self._part, delivery)):
            self._finish_part()
        if self._part is None:
            self._part = self._begin(self._new_path(), delivery)
        # a clock that went back does not make a part longer
        self._began_s[frame.source] = min(self._began_s.get(frame.source, frame.time_s), frame.time_s)
        self._part.write(delivery)

    def _fits(self, part: Part, delivery: Delivery) -> bool:
        """Whether a result belongs into a part."""
        return True

    def _is_over(self, frame: Frame) -> bool:
        """Whether the part is long enough, by the clock of the frame's source: each has its own."""
        began_s = self._began_s.get(frame.source, frame.time_s)
        return self._parts.segment is not None and frame.time_s - began_s >= self._parts.segment

    def _finish_part(self) -> None:
        part, self._part, self._began_s = self._part, None, {}
        if part is None:
            return
        try:
            if part.close():
                self._finished.append(self._part_path)
        except SinkError:
            part.abort()
            self._note_kept(part)
            raise

    def _new_path(self) -> Path:
        """Where the next part goes; where the last one would have gone, if nothing came for that."""
        if self._number == 0:
            self._part_path, self._number = self._first()
        elif self._finished and self._finished[-1] == self._part_path:
            number = highest_number(self.path) if self._number == 1 else self._number
            self._part_path, self._number = self._next_free(number)
        return self._part_path

    def _first(self) -> tuple[Path, int]:
        if self._parts.replaces:
            return self.path, 1
        highest = highest_number(self.path)
        if highest == 1 and self._is_free(self.path):
            return self.path, 1
        return self._next_free(highest)

    def _next_free(self, number: int) -> tuple[Path, int]:
        return next_free(self.path, number, self._is_free, suffix=self.path.suffix)

    def _is_free(self, path: Path) -> bool:
        is_mine = path == self.path or behind_links(path) not in self._taken
        return is_mine and not path.exists() and not is_being_written(path)

    def _note_kept(self, part: Part) -> None:
        if part.kept is not None:
            self._kept.append(part.kept)

    def _with_kept(self, problem: SinkError) -> SinkError:
        if not self._finished:
            return problem
        return SinkError(f"{problem}; kept: {', '.join(map(str, self._finished))}")


def highest_number(path: Path) -> int:
    """The number of the last part that is there: 7 for `out-7.mp4`; 1 where there is none.

    Raises:
        SinkError: If this user may not list the folder.
    """
    return max(numbered(path, path.suffix), default=1)


def numbered(path: Path, suffix: str) -> dict[int, Path]:
    """What is there under the name with a number: `out-7.mp4`.

    Args:
        path: Without a number.
        suffix: What stands behind the number; a folder such as `10.0.0.1` may have none.

    Raises:
        SinkError: If this user may not list the folder.
    """
    if not path.parent.is_dir():
        return {}
    stem = path.name.removesuffix(suffix)
    name = re.compile(rf"{re.escape(stem)}-(\d{{1,9}}){re.escape(suffix)}")
    with explained(path):
        return {int(match[1]): file for file in path.parent.iterdir() if (match := name.fullmatch(file.name))}


def next_free(path: Path, number: int, is_free: Callable[[Path], bool], *, suffix: str) -> tuple[Path, int]:
    """The first part behind a number for which there is room, and its number; `numbered` knows the suffix."""
    while True:
        number += 1
        part = with_mark(path, number, suffix)
        if is_free(part):
            return part, number


def with_mark(path: Path, mark: object, suffix: str) -> Path:
    """The name with something more at its end, before its suffix: `out-7.mp4`."""
    return path.with_name(f"{path.name.removesuffix(suffix)}-{mark}{suffix}")
