"""What PixelRT must reach, per network and backend, on a data-centre GPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from harness import Bar

from gpu.state import CopyRate
from gpu.summary import Summary

END_TO_END_LIMIT = 1.25
THROUGHPUT_LIMIT = 0.95
SPEEDUP_LIMIT = 2.0
TAIL_LIMIT = 1.3

_EAGER = ("torch/eager", "torch/eager-channels-last")


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """What the bars of one network are judged by."""

    model: str
    summaries: Mapping[str, Summary]
    not_measured: Mapping[str, str]
    rate: CopyRate
    frame_bytes: int
    mask_bytes: int

    def why_not(self, *names: str) -> str:
        """Why a bar cannot be judged that needs these contenders; empty if all were measured."""
        for name in names:
            if name not in self.summaries:
                return f"{name}: {self.not_measured.get(name, 'it was not asked for')}"
        return ""


def bars(results: Results, backend: str) -> list[Bar]:
    """The four bars. One that needs a contender that was not measured has no value, and the reason.

    The GPU's compute time is that of the same contender in the same turns, as trtexec compares them.
    """
    call, two = f"pixelrt/{backend}/call", f"pixelrt/{backend}/2-slots"
    eager = _faster_eager(results)
    prefix = f"{results.model}, {backend}:"
    return [
        Bar(
            f"{prefix} p50 / (compute + ideal copies)",
            _end_to_end(results, call),
            END_TO_END_LIMIT,
            at_most=True,
            why_not=results.why_not(call),
        ),
        Bar(
            f"{prefix} throughput of two slots x compute",
            _throughput(results, two),
            THROUGHPUT_LIMIT,
            at_most=False,
            why_not=results.why_not(two),
        ),
        Bar(
            f"{prefix} p50 of {eager} / p50",
            _speedup(results, call, eager),
            SPEEDUP_LIMIT,
            at_most=False,
            why_not=results.why_not(call, eager),
        ),
        Bar(
            f"{prefix} p99 / p50",
            _tail(results, call),
            TAIL_LIMIT,
            at_most=True,
            why_not=results.why_not(call),
        ),
    ]


def ideal_ms(results: Results, name: str) -> float | None:
    """GPU compute time of a contender, and the copies of frame and mask at the rate of the bus."""
    compute_ms = _compute_ms(results, name)
    if compute_ms is None:
        return None
    return compute_ms + results.rate.ideal_ms(results.frame_bytes, results.mask_bytes)


def _end_to_end(results: Results, name: str) -> float | None:
    return _ratio(_p50_ms(results, name), ideal_ms(results, name))


def _throughput(results: Results, name: str) -> float | None:
    """Share of the time in which the GPU computes: frames per second times seconds per frame."""
    compute_ms = _compute_ms(results, name)
    frames_per_s = results.summaries[name].throughput_fps if name in results.summaries else None
    if compute_ms is None or frames_per_s is None:
        return None
    return round(frames_per_s * compute_ms / 1e3, 4)


def _speedup(results: Results, name: str, eager: str) -> float | None:
    return _ratio(_p50_ms(results, eager), _p50_ms(results, name))


def _tail(results: Results, name: str) -> float | None:
    summary = results.summaries.get(name)
    if summary is None or summary.latency_ms is None:
        return None
    return _ratio(summary.latency_ms.p99, summary.latency_ms.p50)


def _faster_eager(results: Results) -> str:
    """PyTorch in the better of its memory formats; the plain one where none was measured."""
    measured = {name: p50 for name in _EAGER if (p50 := _p50_ms(results, name)) is not None}
    return min(measured, key=lambda name: measured[name], default=_EAGER[0])


def _p50_ms(results: Results, name: str) -> float | None:
    summary = results.summaries.get(name)
    return summary.latency_ms.p50 if summary is not None and summary.latency_ms is not None else None


def _compute_ms(results: Results, name: str) -> float | None:
    summary = results.summaries.get(name)
    return summary.gpu.compute_ms if summary is not None and summary.gpu is not None else None


def _ratio(over: float | None, under: float | None) -> float | None:
    return round(over / under, 4) if over is not None and under else None
