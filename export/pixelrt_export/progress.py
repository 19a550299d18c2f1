"""Progress of the steps of an export, on standard error."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from pixelrt.errors import PixelRTError
from pixelrt.manifest import size_name
from pixelrt.terminal import complain, console

T = TypeVar("T")


@dataclass(slots=True)
class Steps:
    """Shows each step of an export, and keeps how long it took.

    A bar on a terminal, a line when a step begins elsewhere (in a log, say). Use it as a context manager. A
    quiet one shows nothing and still measures.
    """

    quiet: bool = False
    seconds: dict[str, float] = field(default_factory=dict)
    """Wall time per step, in the order of the steps."""
    notes: tuple[str, ...] = ()
    """Warnings to show when all is done."""
    _subject: str = field(default="", init=False)
    _progress: Progress = field(init=False)
    _phases: dict[str, TaskID] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console(),
            disable=self.quiet or not console().is_terminal,
        )

    def __enter__(self) -> Steps:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        for task in self._phases.values():  # those that an error ended
            self._progress.remove_task(task)
        self._progress.stop()
        if not self.quiet:
            for note in self.notes:
                complain(f"warning: {note}")

    @contextmanager
    def about(self, subject: str) -> Iterator[None]:
        """Put what the steps in the block are about in front of their descriptions."""
        before, self._subject = self._subject, f"{subject}: "
        try:
            yield
        finally:
            self._subject = before

    @contextmanager
    def step(self, description: str) -> Iterator[None]:
        """A step whose end cannot be foreseen: the bar moves until it is done."""
        description = self._subject + description
        task = self._begin(description, None)
        start = time.perf_counter()
        try:
            yield
        finally:
            self._keep(description, start)
        self._progress.update(task, total=1, completed=1)

    def track(self, items: Sequence[T], description: str) -> Iterator[T]:
        """Go through items; the bar says how many are done."""
        description = self._subject + description
        task = self._begin(description, len(items))
        start = time.perf_counter()
        try:
            for item in items:
                yield item
                self._progress.advance(task)
        finally:
            self._keep(description, start)

    def phase(self, name: str, step: int, num_steps: int) -> None:
        """Show how far a part of a step has come; parts may nest, and are gone when they are done."""
        if name not in self._phases:
            self._phases[name] = self._progress.add_task(f"  {name}", total=num_steps)
        self._progress.update(self._phases[name], completed=step, total=num_steps)
        if step >= num_steps:
            self._progress.remove_task(self._phases.pop(name))

    def _begin(self, description: str, total: int | None) -> TaskID:
        if not self.quiet and not console().is_terminal:
            complain(f"{description} ..." if total is None else f"{description}, {total} images ...")
        return self._progress.add_task(description, total=total)

    def _keep(self, description: str, start: float) -> None:
        self.seconds[description] = self.seconds.get(description, 0.0) + time.perf_counter() - start


@contextmanager
def about_size(size: tuple[int, int], steps: Steps) -> Iterator[None]:
    """Name a size in progress and errors.

    Raises:
        PixelRTError: What was raised, with the size in front.
    """
    called = size_name(size)
    with steps.about(called):
        try:
            yield
        except PixelRTError as problem:
            raise type(problem)(f"at the size {called}: {problem}") from problem
