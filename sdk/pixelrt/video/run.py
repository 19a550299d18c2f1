"""Runs a segmenter over sources, hands the results to sinks, and measures."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial

from pixelrt.bundle import Bundle
from pixelrt.errors import InputError, SourceError
from pixelrt.interrupts import running
from pixelrt.machine import describe
from pixelrt.manifest import Head
from pixelrt.segmentation import Segmenter
from pixelrt.video.delivery import Delivery
from pixelrt.video.events import Event, ignore
from pixelrt.video.live import (
    Policy,
    SourceStatistics,
    Stream,
    StreamOptions,
    StreamStatistics,
    StreamView,
)
from pixelrt.video.live.failing import Failing
from pixelrt.video.live.opening import check_channels, find_head
from pixelrt.video.report import RunReport, SourceReport
from pixelrt.video.sinks import Sink
from pixelrt.video.sources import Source
from pixelrt.video.sources.limited import Limited
from pixelrt.video.tally import Tally, accuracy, coverage

_LOG = logging.getLogger("pixelrt.video")
_POLL_S = 0.05
_FIGURES_EVERY_S = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """How to run. What is not described here is described in `StreamOptions`.

    Raises:
        InputError: If a value cannot be used.
    """

    alpha: float = 0.5
    legend: bool = True
    limit: int | None = None
    """Stop after so many frames of each source."""
    head: str | None = None
    """The head to draw, write and score; None for the first."""
    policy: Policy | None = None
    deadline: float | None = None
    adaptive: bool = False
    watchdog: float | None = None
    """Seconds without a result after which `Observers.silence` is told."""
    keep_going: bool = False
    """Whether the other sources go on when one fails."""
    log: float | None = None
    """Seconds between two lines with the statistics in the log; None for none."""

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise InputError(f"limit is {self.limit}, expected at least 1 frame")
        self.stream()

    def stream(self, sinks: Sequence[Sink] = (), observers: Observers | None = None) -> StreamOptions:
        """The options of the stream.

        Raises:
            InputError: If a value cannot be used.
        """
        watching = observers or Observers()
        return StreamOptions(
            policy=self.policy,
            deadline=self.deadline,
            sinks=sinks,
            head=self.head,
            alpha=self.alpha,
            legend=self.legend,
            adaptive=self.adaptive,
            on_event=watching.event,
            watchdog=self.watchdog,
            on_watchdog=None if self.watchdog is None else watching.silence,
            on_source_error="detach" if self.keep_going else "stop",
            log=self.log,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a run is, after each frame."""

    frames: int
    total: int | None
    """How many there will be; None where nobody knows."""
    fps: float
    """Over the last seconds."""
    p50_ms: float
    """Median time from capture to delivery, over the last seconds."""


def _quiet(_: object) -> None:
    """Say nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observers:
    """Who is told how a run goes."""

    progress: Callable[[Progress], None] = _quiet
    """After each result."""
    event: Callable[[Event], None] = ignore
    """After each change of state, in a thread of the stream."""
    silence: Callable[[float], None] = _quiet
    """With the seconds since the last result, when they are more than `RunOptions.watchdog`."""
    views: Sequence[Callable[[StreamView], AbstractContextManager[object]]] = field(default=())
    """Each is opened with the stream before the run, and closed after it: panels, metrics."""


class Run:
    """One run. `execute` does it; `report` says what was done so far, also after an error.

    Args:
        segmenter: Opened with `color="rgb"` (frames are RGB).
        sources: An opened source, or several; they are not closed here.
        sinks: Opened sinks; `execute` closes them.
        options: How.
        observers: Who is told how it goes.
        stop: Asked all the time, in a thread of its own; true ends the run as if the sources had ended.

    Raises:
        InputError: If the bundle does not take frames of 3 channels, has no head of the name in the options,
            or the head emits no mask.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        sources: Source | Sequence[Source],
        sinks: Sequence[Sink] = (),
        *,
        options: RunOptions | None = None,
        observers: Observers | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> None:
        self._segmenter, self._sinks, self._stop = segmenter, tuple(sinks), stop
        self._options, self._observers = options or RunOptions(), observers or Observers()
        check_channels(segmenter.bundle)
        self._head = pick_head(segmenter.bundle, self._options.head)
        several = sources if isinstance(sources, Sequence) else [sources]
        self._sources = [Limited(source, self._options.limit) for source in several]
        self._interrupted = False
        observers = dataclasses.replace(self._observers, event=self._tell)
        self._stream = Stream(segmenter, self._sources, self._options.stream(self._sinks, observers))
        classes = tuple(info.name for info in self._head.classes)
        self._tallies = {
            status.name: Tally(classes, status.name, source.truth_classes)
            for status, source in zip(self._stream.sources, self._sources, strict=True)
        }
        self._sizes: Counter[tuple[int, int]] = Counter()
        self._frame_sizes: dict[str, set[tuple[int, int]]] = {name: set() for name in self._tallies}
        self._figures = _Figures(self._stream)
        self._started = self._ended = time.perf_counter()

    def execute(self) -> None:
        """Run to the end of the sources, and finish the sinks.

        Ctrl-C and a source that breaks end the run early, and the sinks are finished with what there is; with
        `keep_going` the run ends with the other sources, and then raises. A sink that breaks makes all of
        them drop what is half-written; with the policy `latest` it just gets no more results, `report` says
        why, and the run ends with the last one.

        Raises:
            SourceError: If a source breaks.
            SinkError: If a result cannot be written, with the policy `all`.
        """
        self._started = time.perf_counter()
        try:
            with contextlib.ExitStack() as watching:
                for view in self._observers.views:
                    watching.enter_context(view(self._stream))
                watching.enter_context(self._stopping())
                self._stream.run(self._note)
        except SourceError:
            self._interrupted |= not self._others_went_on()
            raise
        except BaseException:
            self._interrupted = True
            raise
        finally:
            self._stream.close()
            self._ended = time.perf_counter()

    def _others_went_on(self) -> bool:
        """Whether a source that broke did not end the run."""
        states = {source.health.state for source in self._stream.statistics().sources}
        return self._options.keep_going and states != {"failed"}

    def report(self) -> RunReport:
        """What was measured so far."""
        now = self._stream.statistics()
        tallies = list(self._tallies.values())
        frames = sum(tally.frames for tally in tallies)
        seconds = self._ended - self._started
        return RunReport(
            bundle=self._segmenter.bundle.manifest.name,
            head=self._head.name,
            policy=self._stream.policy,
            deadline_s=self._options.deadline,
            source=", ".join(source.name for source in now.sources),
            frame_size=self._sources[0].size,
            outputs=tuple(map(str, self._stream.outputs)),
            frames=frames,
            interrupted=self._interrupted,
            seconds=seconds,
            fps=frames / seconds if seconds else 0.0,
            stages=dict(now.stages),
            network_sizes={f"{rows}x{cols}": count for (rows, cols), count in self._sizes.items()},
            sources=tuple(map(self._source_report, now.sources, self._sources)),
            sinks=now.sinks,
            coverage=coverage(tallies),
            accuracy=accuracy(tallies),
            no_accuracy="; ".join(tally.problem for tally in tallies if tally.problem),
            session=self._segmenter.session.info,
            machine=describe(),
        )

    def _source_report(self, now: SourceStatistics, source: Source) -> SourceReport:
        tally = self._tallies[now.name]
        return SourceReport(
            name=now.name,
            frame_size=source.size,
            frame_sizes=tuple(sorted(self._frame_sizes[now.name])),
            fps=source.fps,
            live=source.live,
            captured=now.captured,
            frames=tally.frames,
            dropped=dict(now.dropped),
            lost=dict(now.lost),
            reconnects=now.reconnects,
            failed=now.health.why if now.health.state == "failed" else "",
            coverage=tally.coverage(),
            accuracy=tally.accuracy(),
            no_accuracy=tally.problem,
        )

    def _tell(self, event: Event) -> None:
        """Pass an event on, and end the run with its last sink.

        That a source has ended is no news where it was told to.
        """
        if event.kind != "ended" or not self._interrupted:
            self._observers.event(event)
        if event.kind == "sink_failed" and all(sink.failed for sink in self._stream.statistics().sinks):
            self._end_early()

    def _note(self, delivery: Delivery) -> None:
        self._sizes[delivery.size] += 1
        self._frame_sizes[delivery.frame.source].add(delivery.frame.size)
        self._tallies[delivery.frame.source].add(delivery.frame, delivery.result)
        self._observers.progress(self._progress())

    def _progress(self) -> Progress:
        totals = [source.num_frames for source in self._sources]
        known = [total for total in totals if total is not None]
        fps, p50_ms = self._figures.latest()
        return Progress(
            frames=sum(tally.frames for tally in self._tallies.values()),
            total=sum(known) if len(known) == len(totals) else None,
            fps=fps,
            p50_ms=p50_ms,
        )

    @contextlib.contextmanager
    def _stopping(self) -> Iterator[None]:
        """Ask `stop` in a thread of its own, and end the sources when it says so."""
        if self._stop is None:
            yield
            return
        over = threading.Event()
        asking = threading.Thread(target=self._ask, args=(self._stop, over), name="pixelrt-stop", daemon=True)
        with running(asking, over.set):
            yield

    def _ask(self, stop: Callable[[], bool], over: threading.Event) -> None:
        while not stop():
            if over.wait(_POLL_S):
                return
        self._end_early()

    def _end_early(self) -> None:
        """Have every source end; one that cannot be interrupted ends with its next frame."""
        self._interrupted = True
        for source in self._sources:
            with Failing(partial(_cannot_interrupt, source.name), Exception):
                source.interrupt()


class _Figures:
    """The rate and the latency of a stream, read a few times a second: percentiles take a while."""

    def __init__(self, stream: StreamView) -> None:
        self._stream = stream
        self._due_s, self._latest = 0.0, (0.0, 0.0)

    def latest(self) -> tuple[float, float]:
        """Frames a second, and median milliseconds from capture to delivery."""
        now_s = time.monotonic()
        if now_s >= self._due_s:
            self._due_s = now_s + _FIGURES_EVERY_S
            self._latest = _rate_and_latency(self._stream.statistics())
        return self._latest


def _cannot_interrupt(name: str, problem: BaseException) -> None:
    _LOG.warning("%s cannot be interrupted: %s", name, problem, exc_info=problem)


def _rate_and_latency(now: StreamStatistics) -> tuple[float, float]:
    latency = now.recent.get("capture to delivery")
    return now.fps, 0.0 if latency is None else latency.p50_ms


def run(
    segmenter: Segmenter,
    sources: Source | Sequence[Source],
    sinks: Sequence[Sink] = (),
    *,
    options: RunOptions | None = None,
    observers: Observers | None = None,
    stop: Callable[[], bool] | None = None,
) -> RunReport:
    """Segment the frames of sources, hand the results to sinks, and report. See `Run`."""
    job = Run(segmenter, sources, sinks, options=options, observers=observers, stop=stop)
    job.execute()
    return job.report()


def pick_head(bundle: Bundle, asked: str | None) -> Head:
    """The head of a name, or the first.

    Raises:
        InputError: If there is none of that name, or it emits no mask.
    """
    head = find_head(bundle, asked)
    if "mask" not in head.outputs:
        raise InputError(f"head {head.name!r} emits no mask; export it with 'mask' among its outputs")
    return head
