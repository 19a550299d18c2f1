"""The figures on the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from gpu.rounds import Race
from gpu.summary import Percentiles, Summary
from pixelrt.terminal import heading, say, say_table

_COLUMNS = (
    *("contender", ">frames/s", ">p50", ">p95", ">p99"),
    *(">compute", ">enqueue", ">H2D", ">D2H", ">same mask"),
)
_NONE = "-"


def show(title: str, result: Race, summaries: Mapping[str, Summary]) -> None:
    """Write a table of all contenders, what trtexec would warn of, and who was not measured, and why."""
    heading(f"{title}: milliseconds, per frame to its mask (p50 to p99) and per run of the network")
    rows = [row(name, summary, result.measured[name].same_mask) for name, summary in summaries.items()]
    say_table(_COLUMNS, rows)
    if result.reference:
        say(f"  same mask: share of pixels with the class that {result.reference} gives")
    remarks = {name: summary.remarks for name, summary in summaries.items()}
    for remark, names in grouped((name, remark) for name, found in remarks.items() for remark in found):
        say(f"  {remark}: {', '.join(names)}")
    if result.not_measured:
        heading(f"{title}: not measured")
        for reason, names in grouped(result.not_measured.items()):
            say(f"  {', '.join(names)}: {reason}")


def grouped(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, list[str]]]:
    """What is said, and of whom: one reason often holds for many."""
    groups: dict[str, list[str]] = {}
    for name, said in pairs:
        groups.setdefault(said, []).append(name)
    return list(groups.items())


def row(name: str, summary: Summary, same_mask: float | None) -> tuple[str, ...]:
    """The cells of a contender."""
    gpu = summary.gpu
    computed = (gpu.compute_ms, gpu.enqueue_ms, gpu.h2d_ms, gpu.d2h_ms) if gpu is not None else (None,) * 4
    return (
        name,
        _NONE if summary.throughput_fps is None else f"{summary.throughput_fps:.1f}",
        *_latency(summary.latency_ms),
        *(_NONE if value is None else f"{value:.3f}" for value in computed),
        _NONE if same_mask is None else f"{same_mask:.4f}",
    )


def _latency(latency: Percentiles | None) -> tuple[str, ...]:
    if latency is None:
        return (_NONE,) * 3
    return tuple(f"{value:.3f}" for value in (latency.p50, latency.p95, latency.p99))
