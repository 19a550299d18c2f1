"""Figures of a contender, by trtexec's definitions (TensorRT, samples/common/sampleReporting.cpp).

  throughput   frames per second of host time, from the first frame given to the last mask taken
  GPU compute  GPU time of one run's kernels, from CUDA events
  enqueue      host time to put one run into the stream, or to launch its graph
  H2D, D2H     GPU time of the copies up and down

trtexec calls H2D + compute + D2H the latency, which leaves out queues, pre- and post-processing and Python.
Here latency is what a program sees: from giving a frame to holding its mask. trtexec's stands beside it as
`gpu_latency_ms`.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gpu.contender import Turn

_ENQUEUE_SHARE = 0.8
_UNSTEADY = 0.025


@dataclass(frozen=True, slots=True, kw_only=True)
class Percentiles:
    """Milliseconds of many frames, linearly interpolated between neighbours."""

    p50: float
    p95: float
    p99: float
    mean: float
    max: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuFigures:
    """Medians in milliseconds, per run of the network (a batch is one run)."""

    compute_ms: float
    enqueue_ms: float
    h2d_ms: float
    d2h_ms: float
    gpu_latency_ms: float
    """H2D + compute + D2H."""
    compute_variation: float
    """Coefficient of variation of the compute time: standard deviation by mean."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """All turns of a contender."""

    frames: int
    throughput_fps: float | None
    """None for what processes no whole frame."""
    latency_ms: Percentiles | None
    gpu: GpuFigures | None
    """None where the library does not tell."""
    round_p50_ms: tuple[float, ...]
    """Median latency of each round, or GPU compute time where there is no latency: how steady it was."""
    remarks: tuple[str, ...]
    """What trtexec would warn of."""


def summarize(turns: Sequence[Turn]) -> Summary:
    """Pool the turns of a contender, of which there is at least one."""
    pooled = Turn()
    for turn in turns:
        pooled.add(turn)
    gpu = _gpu(pooled)
    latency = percentiles(pooled.latencies_ms)
    return Summary(
        frames=pooled.frames,
        throughput_fps=round(pooled.frames / pooled.wall_s, 2) if latency and pooled.wall_s else None,
        latency_ms=latency,
        gpu=gpu,
        round_p50_ms=tuple(_median(turn) for turn in turns),
        remarks=remarks(gpu),
    )


def percentiles(values_ms: Sequence[float]) -> Percentiles | None:
    """Of values in milliseconds; None if there are none."""
    if not values_ms:
        return None
    p50, p95, p99 = (round(float(value), 4) for value in np.percentile(values_ms, (50, 95, 99)))
    mean, largest = round(statistics.fmean(values_ms), 4), round(max(values_ms), 4)
    return Percentiles(p50=p50, p95=p95, p99=p99, mean=mean, max=largest)


def remarks(gpu: GpuFigures | None) -> tuple[str, ...]:
    """What trtexec warns of, by its thresholds."""
    if gpu is None or not gpu.compute_ms:
        return ()
    found = []
    if gpu.enqueue_ms > _ENQUEUE_SHARE * gpu.compute_ms:
        found.append("bound by enqueuing: it takes more than 0.8 of the compute time")
    if max(gpu.h2d_ms, gpu.d2h_ms) >= gpu.compute_ms:
        found.append("bound by a copy, which takes as long as computing")
    if gpu.compute_variation > _UNSTEADY:
        found.append("unsteady: the compute time varies by more than 2.5 % (others, or clocks)")
    return tuple(found)


def as_json(summary: Summary) -> dict[str, object]:
    """For the result file."""
    return dataclasses.asdict(summary)


def _gpu(pooled: Turn) -> GpuFigures | None:
    if not pooled.times:
        return None

    def median(name: str) -> float:
        return float(round(statistics.median(getattr(each, name) for each in pooled.times), 4))

    computes = [each.compute_ms for each in pooled.times]
    mean = statistics.fmean(computes)
    return GpuFigures(
        compute_ms=median("compute_ms"),
        enqueue_ms=median("enqueue_ms"),
        h2d_ms=median("upload_ms"),
        d2h_ms=median("download_ms"),
        gpu_latency_ms=median("latency_ms"),
        compute_variation=round(statistics.pstdev(computes) / mean, 5) if mean else 0.0,
    )


def _median(turn: Turn) -> float:
    values = turn.latencies_ms or [each.compute_ms for each in turn.times]
    return round(statistics.median(values), 4) if values else 0.0
