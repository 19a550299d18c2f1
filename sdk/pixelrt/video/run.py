"""Runs a segmenter over a source and hands the results to sinks, measuring each stage."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from pixelrt.bundle import Bundle
from pixelrt.errors import InputError, SourceError
from pixelrt.machine import describe
from pixelrt.manifest import Head
from pixelrt.metrics import ConfusionMatrix, foreign_ids
from pixelrt.segmentation import Segmentation, Segmenter, check_alpha
from pixelrt.strict import suggestion
from pixelrt.video.artist import Artist, Picture
from pixelrt.video.delivery import Delivery, Times
from pixelrt.video.report import Accuracy, RunReport, finite
from pixelrt.video.sinks import Sink
from pixelrt.video.sources import Frame, Source
from pixelrt.video.statistics import StageTimes

STAGES = ("decode", "prepare", "network", "draw", "encode", "end to end", "score")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """How to run.

    Raises:
        InputError: If a value cannot be used.
    """

    alpha: float = 0.5
    """Weight of the classes' colours in overlays, 0..1."""
    legend: bool = True
    """Whether overlays name the classes."""
    limit: int | None = None
    """Stop after so many frames."""
    head: str | None = None
    """The head to draw, write and score; None for the first."""

    def __post_init__(self) -> None:
        check_alpha(self.alpha)
        if self.limit is not None and self.limit < 1:
            raise InputError(f"limit is {self.limit}, expected at least 1 frame")


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a run is, after each frame."""

    frames: int
    total: int | None
    """How many there will be; None where nobody knows."""
    fps: float
    """Over the last frames."""
    p50_ms: float
    """Median of the end-to-end time over the last frames."""


class Run:
    """One run. `execute` does it; `report` says what was done so far, also after an error.

    Args:
        segmenter: Opened with `color="rgb"` (frames are RGB).
        source: An opened source; it is not closed here.
        sinks: Opened sinks; `execute` closes them.
        options: How.
        progress: Called after each frame.
        stop: Asked before each frame; true ends the run as if the source had ended.

    Raises:
        InputError: If the bundle does not take frames of 3 channels, has no head of the name in the options,
            or the head emits no mask.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        source: Source,
        sinks: Sequence[Sink] = (),
        *,
        options: RunOptions | None = None,
        progress: Callable[[Progress], None] | None = None,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self._segmenter, self._source, self._sinks = segmenter, source, tuple(sinks)
        self._options = options or RunOptions()
        self._progress, self._stop = progress, stop
        check_channels(segmenter.bundle)
        head = pick_head(segmenter, self._options.head)
        self._head = head.name
        self._artist = Artist(head.classes, alpha=self._options.alpha, legend=self._options.legend)
        self._score = _Score(self._artist.names, source)
        self._times = StageTimes(STAGES)
        self._coverage = np.zeros(len(self._artist.names))
        self._wants_overlay = any(sink.wants_overlay for sink in self._sinks)
        self._started = self._ended = time.perf_counter()
        self._recent: deque[float] = deque(maxlen=50)
        self._outputs: tuple[str, ...] = ()
        self._interrupted = False

    def execute(self) -> None:
        """Run to the end of the source.

        Ctrl-C and a source that breaks end the run early, and the sinks are finished with what there is; any
        other error makes them drop what is half-written.

        Raises:
            SourceError: If the source breaks.
            SinkError: If a result cannot be written.
        """
        self._started = time.perf_counter()
        try:
            self._frames()
        except (SourceError, KeyboardInterrupt):
            self._interrupted = True
            self._finish()
            raise
        except BaseException:
            self._abort()
            raise
        self._finish()

    def report(self) -> RunReport:
        """What was measured so far."""
        frames = len(self._times)
        seconds = self._ended - self._started
        names = self._artist.names
        shares = self._coverage / max(frames, 1)
        return RunReport(
            bundle=self._segmenter.bundle.manifest.name,
            head=self._head,
            source=self._source.name,
            frame_size=self._source.size,
            outputs=self._outputs,
            frames=frames,
            interrupted=self._interrupted,
            seconds=seconds,
            fps=frames / seconds if seconds else 0.0,
            stages=self._times.statistics(),
            coverage={name: float(share) for name, share in zip(names, shares, strict=True)},
            accuracy=self._score.accuracy(),
            no_accuracy=self._score.problem,
            session=self._segmenter.session.info,
            machine=describe(),
        )

    def _frames(self) -> None:
        frames = iter(self._source)
        while not self._limited():
            began = time.perf_counter()
            frame = next(frames, None)
            if frame is None:
                return
            self._one(frame, began)

    def _limited(self) -> bool:
        self._interrupted = self._stop()
        return self._interrupted or len(self._times) == self._options.limit

    def _one(self, frame: Frame, began: float) -> None:
        decoded = time.perf_counter()
        submitted_s = time.monotonic()
        result = self._segmenter(frame.image)[self._head]
        segmented, computed_s = time.perf_counter(), time.monotonic()
        coverage = result.coverage()
        picture = Picture(self._artist, frame, result)
        if self._wants_overlay:
            picture.drawn()
        drawn = time.perf_counter()
        times = Times(
            captured_s=frame.captured_s,
            received_s=submitted_s,
            submitted_s=submitted_s,
            computed_s=computed_s,
            delivered_s=time.monotonic(),
        )
        assert result.mask is not None
        height, width = result.mask.shape
        delivery = Delivery(frame, result, times=times, picture=picture, size=(height, width))
        for sink in self._sinks:
            sink.write(delivery)
        encoded = time.perf_counter()
        scored = self._score.add(frame, result)
        self._coverage += [coverage[name] for name in self._artist.names]
        self._note(
            decode=decoded - began,
            prepare=result.latency.prepare_ms / 1e3,
            network=segmented - decoded - result.latency.prepare_ms / 1e3,
            draw=drawn - segmented,
            encode=encoded - drawn,
            whole=encoded - began,
            score=time.perf_counter() - encoded if scored else None,
        )

    def _note(self, *, whole: float, score: float | None, **stages_s: float) -> None:
        times = {name: 1e3 * seconds for name, seconds in stages_s.items()}
        if score is not None:
            times["score"] = 1e3 * score
        self._times.add(**times, **{"end to end": 1e3 * whole})
        self._ended = time.perf_counter()
        self._recent.append(self._ended)
        if self._progress is not None:
            self._progress(self._state())

    def _state(self) -> Progress:
        total, limit = self._source.num_frames, self._options.limit
        if limit is not None:
            total = limit if total is None else min(total, limit)
        span_s = self._recent[-1] - self._recent[0]
        return Progress(
            frames=len(self._times),
            total=total,
            fps=(len(self._recent) - 1) / span_s if span_s else 0.0,
            p50_ms=self._times.recent_p50_ms("end to end"),
        )

    def _finish(self) -> None:
        try:
            self._outputs = tuple(str(path) for sink in self._sinks for path in sink.close())
        except BaseException:
            self._abort()
            raise
        finally:
            self._ended = time.perf_counter()

    def _abort(self) -> None:
        for sink in self._sinks:
            sink.abort()


def run(
    segmenter: Segmenter,
    source: Source,
    sinks: Sequence[Sink] = (),
    *,
    options: RunOptions | None = None,
    progress: Callable[[Progress], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> RunReport:
    """Segment every frame of a source, hand the results to sinks, and report. See `Run`."""
    job = Run(segmenter, source, sinks, options=options, progress=progress, stop=stop)
    job.execute()
    return job.report()


class _Score:
    """Counts hits against the labels, where the source has some in the head's classes."""

    def __init__(self, names: tuple[str, ...], source: Source) -> None:
        self._names, self._matrix = names, ConfusionMatrix(len(names))
        theirs = source.truth_classes
        differ = theirs is not None and theirs != names
        self.problem = (
            f"{source.name} has labels in the classes {', '.join(theirs or ())}; "
            f"this head has {', '.join(names)}"
            if differ
            else ""
        )

    def add(self, frame: Frame, result: Segmentation) -> bool:
        if frame.truth is None or self.problem or self._foreign(frame):
            return False
        height, width = frame.truth.shape
        self._matrix.add(frame.truth, result.mask_at((height, width)))
        return True

    def _foreign(self, frame: Frame) -> bool:
        assert frame.truth is not None
        strangers = foreign_ids(frame.truth, len(self._names))
        if strangers:
            self.problem = (
                f"the label of {frame.name} holds the ids {', '.join(map(str, strangers))}, and this head "
                f"has {len(self._names)} classes; these labels are of other classes"
            )
        return bool(strangers)

    def accuracy(self) -> Accuracy | None:
        if self.problem or not self._matrix.counts.any():
            return None
        iou = {
            name: finite(float(value)) for name, value in zip(self._names, self._matrix.iou(), strict=True)
        }
        return Accuracy(
            miou=finite(self._matrix.miou()), iou=iou, pixel_accuracy=finite(self._matrix.accuracy())
        )


def check_channels(bundle: Bundle) -> None:
    """Refuse a bundle that sees other frames than sources give.

    Raises:
        InputError: If it does not take 3 channels.
    """
    channels = bundle.segmentation.preprocess.channels
    if channels != 3:
        raise InputError(
            f"{bundle.path} takes frames of {channels} channel{'s' if channels != 1 else ''}, and videos, "
            "images and cameras give 3 (RGB); run it from Python: pixelrt.load(...) and frames "
            f"uint8[H, W, {channels}]"
        )


def pick_head(segmenter: Segmenter, asked: str | None) -> Head:
    """The head of a name, or the first.

    Raises:
        InputError: If there is none of that name, or it emits no mask.
    """
    heads = {head.name: head for head in segmenter.bundle.segmentation.heads}
    name = next(iter(heads)) if asked is None else asked
    if name not in heads:
        raise InputError(
            f"the bundle has no head {name!r}{suggestion(name, list(heads))}; it has {', '.join(heads)}"
        )
    if "mask" not in heads[name].outputs:
        raise InputError(f"head {name!r} emits no mask; export it with 'mask' among its outputs")
    return heads[name]
