"""Takes images as they are made, hands them to a writer, and measures each stage."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pixelrt.cli.generate_files import MadeWriter
from pixelrt.cli.generate_plan import Made
from pixelrt.errors import SourceError
from pixelrt.generation import Generator
from pixelrt.machine import describe
from pixelrt.session import SessionInfo
from pixelrt.video.statistics import StageStatistics, StageTimes

STAGES = ("read", "prepare", "network", "write", "end to end")


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateReport:
    """What was made, and how long it took."""

    bundle: str
    sources: tuple[str, ...]
    """Names of what masks and images came from."""
    outputs: tuple[str, ...]
    """Files and folders that were written."""
    images: int
    image_size: tuple[int, int]
    """Height and width as the generator gives them."""
    channels: int
    seed: int | None
    """Of what was drawn; None where nothing was."""
    labels: tuple[str, ...] | None
    """The label of each image, where the generator is conditional."""
    interrupted: bool
    seconds: float
    """From the first image asked for to the last file finished."""
    images_per_s: float
    """Images by `seconds`: everything is in it."""
    stages: dict[str, StageStatistics]
    """Of each image its share of the batch it was made in: read (the source), prepare (drawing, resizing),
    network, write, end to end."""
    session: SessionInfo

    def plain(self) -> dict[str, Any]:
        """Everything as plain data, and the machine."""
        return {**dataclasses.asdict(self), "machine": dataclasses.asdict(describe())}


class Production:
    """One run. `execute` does it; `report` says what was done so far, also after an error.

    Args:
        generator: Makes the images.
        parts: The images as they are made, when they are taken.
        writer: Takes them; `execute` closes it.
        progress: Called after each part with the number of images and their rate.
        stop: Asked before each part; true ends the run as if there were no more.
    """

    def __init__(
        self,
        generator: Generator,
        parts: Iterator[Made],
        writer: MadeWriter,
        *,
        progress: Callable[[int, float], None] = lambda done, per_s: None,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self._generator, self._parts, self._writer = generator, parts, writer
        self._progress, self._stop = progress, stop
        self._times = StageTimes(STAGES)
        self._started = self._ended = time.perf_counter()
        self._seed: int | None = None
        self._labels: list[str] = []
        self._outputs: tuple[str, ...] = ()
        self._done = 0

    def execute(self) -> None:
        """Make everything.

        A source that breaks ends the run early, and the writer finishes with what there is; any other error
        makes it drop what is half-written.

        Raises:
            SourceError: If a source breaks.
            SinkError: If a result cannot be written.
        """
        self._started = time.perf_counter()
        try:
            self._all()
        except (SourceError, KeyboardInterrupt):
            self._finish()
            raise
        except BaseException:
            self._writer.abort()
            raise
        self._finish()

    def report(self, sources: tuple[str, ...], *, interrupted: bool) -> GenerateReport:
        """What was made so far."""
        output, seconds = self._generator.bundle.generation.output, self._ended - self._started
        return GenerateReport(
            bundle=self._generator.bundle.manifest.name,
            sources=sources,
            outputs=self._outputs,
            images=self._done,
            image_size=output.size,
            channels=output.channels,
            seed=self._seed,
            labels=tuple(self._labels) if self._generator.labels else None,
            interrupted=interrupted,
            seconds=seconds,
            images_per_s=self._done / seconds if seconds else 0.0,
            stages=self._times.statistics(),
            session=self._generator.session.info,
        )

    def _all(self) -> None:
        while not self._stop():
            began = time.perf_counter()
            made = next(self._parts, None)
            if made is None:
                return
            self._one(made, began)

    def _one(self, made: Made, began: float) -> None:
        ready = time.perf_counter()
        self._writer.add(made)
        self._ended = time.perf_counter()
        count, latency = len(made.generated), made.generated.latency
        making_ms = latency.prepare_ms + latency.network_ms
        shares = {
            "read": max(1e3 * (ready - began) / count - making_ms, 0.0) if made.given else None,
            "prepare": latency.prepare_ms,
            "network": latency.network_ms,
            "write": 1e3 * (self._ended - ready) / count,
            "end to end": 1e3 * (self._ended - began) / count,
        }
        for _ in range(count):
            self._times.add(**{name: share for name, share in shares.items() if share is not None})
        self._done += count
        self._seed = made.generated.seed if self._seed is None else self._seed
        if made.generated.labels is not None:
            self._labels += made.generated.labels
        self._progress(self._done, self._done / (self._ended - self._started))

    def _finish(self) -> None:
        try:
            self._outputs = self._writer.close()
        except BaseException:
            self._writer.abort()
            raise
        finally:
            self._ended = time.perf_counter()
