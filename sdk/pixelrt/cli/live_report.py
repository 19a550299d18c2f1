"""The figures of a run, as tables or as JSON."""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pixelrt.cli.wording import counted, say_times
from pixelrt.terminal import complain, heading, say, say_table, writing_output

if TYPE_CHECKING:
    from pixelrt.video.report import RunReport

_UNTIL_RESULT = ("decode", "wait", "network")
"""The stages that make the age of a result."""


def show(report: RunReport, json_file: str | None, *, tables: bool = True, failed: bool = False) -> None:
    """Show the figures.

    Args:
        report: Of the run.
        json_file: Gets them as JSON; `-` for standard output, without tables; None for tables alone.
        tables: Whether standard output is free for them; else standard error gets a line, and what was
            dropped, lost or not written.
        failed: Whether an error ended the run.

    Raises:
        SinkError: If they cannot be written.
    """
    from pixelrt.encoding import write_whole

    if json_file == "-":
        with writing_output():
            sys.stdout.write(report.to_json())
            sys.stdout.flush()
        return
    if tables:
        say(_summary(report, failed))
        _show_tables(report)
    else:
        complain(_summary(report, failed))
        if sys.stderr is not None:
            with contextlib.redirect_stdout(sys.stderr):
                _show_sources(report)
                _show_sinks(report)
    if json_file is not None:
        write_whole(Path(json_file), report.to_json().encode())
    if tables:
        _show_files([*report.outputs, *([json_file] if json_file else [])])


def advice_on_deadline(report: RunReport) -> str:
    """What the deadline did, and which one would do; empty where it dropped less than was delivered."""
    dropped = sum(source.dropped.get("deadline", 0) for source in report.sources)
    if report.deadline_s is None or dropped <= report.frames:
        return ""
    captured = sum(source.captured for source in report.sources)
    ages_ms = {name: report.stages[name].p50_ms for name in _UNTIL_RESULT if name in report.stages}
    age_ms = sum(ages_ms.values())
    parts = ", ".join(f"{name} {age:.0f}" for name, age in ages_ms.items())
    what, where = ("results", "here") if "network" in ages_ms else ("frames", "before the network has them")
    other_s = _roomy(max(age_ms / 1e3, report.deadline_s))
    return (
        f"--deadline {report.deadline_s:g} dropped {dropped} of {counted(captured, 'frame')}: {what} are "
        f"about {age_ms:.0f} ms old {where} ({parts}); try --deadline {other_s:g}"
    )


def _roomy(age_s: float) -> float:
    """Twice the age, rounded up to one digit."""
    step = 10.0 ** math.floor(math.log10(2 * age_s))
    return round(math.ceil(2 * age_s / step) * step, 9)


def reasons_text(counts: Mapping[str, int]) -> str:
    """`15 newer, 3 deadline`; empty where nothing was counted."""
    return ", ".join(f"{count} {reason}" for reason, count in counts.items() if count)


def _summary(report: RunReport, failed: bool) -> str:
    seen = {size for source in report.sources for size in source.frame_sizes or (source.frame_size,)}
    sizes = sorted(size for size in seen if all(size))
    of = f" of {' and '.join(f'{rows}x{cols}' for rows, cols in sizes)}" if sizes else ""
    broken = sum(bool(source.failed) for source in report.sources)
    ended = ""
    if report.interrupted:
        ended = ", then it failed" if failed else ", then interrupted"
    elif broken:
        ended = f"; {broken} of {counted(len(report.sources), 'source')} failed"
    return (
        f"{counted(report.frames, 'frame')}{of} in {report.seconds:.1f} s: "
        f"{report.fps:.1f} frames/s with everything in it{ended}"
    )


def _show_tables(report: RunReport) -> None:
    _show_times(report)
    _show_sources(report)
    _show_sinks(report)
    _show_classes(report)


def _show_times(report: RunReport) -> None:
    if len(report.network_sizes) > 1:
        say("network sizes: " + ", ".join(f"{size} {n} times" for size, n in report.network_sizes.items()))
    if report.stages:
        heading("Milliseconds per frame")
        say_times(report.stages)


def _show_sources(report: RunReport) -> None:
    """Where every frame went, if that is more than one line can say."""
    sources = report.sources
    if len(sources) == 1 and not any((sources[0].dropped, sources[0].lost, sources[0].reconnects)):
        return
    heading(f"Sources (policy {report.policy or 'latest for cameras, all for files'})")
    say_table(
        ("source", ">captured", ">results", "dropped", "lost", ">reconnects"),
        [
            (
                source.name,
                str(source.captured),
                str(source.frames),
                reasons_text(source.dropped) or "-",
                reasons_text(source.lost) or "-",
                str(source.reconnects),
            )
            for source in sources
        ],
    )
    if len(sources) > 1:
        for source in sources:
            if source.failed:
                say(f"{source.name} failed: {source.failed}")


def _show_sinks(report: RunReport) -> None:
    """What sinks did not get."""
    if not any(sink.dropped or sink.failed for sink in report.sinks):
        return
    heading("Sinks")
    say_table(
        ("sink", ">written", ">dropped", "failed"),
        [(sink.name, str(sink.written), str(sink.dropped), sink.failed or "-") for sink in report.sinks],
    )


def _show_classes(report: RunReport) -> None:
    if not report.frames:
        return
    heading(f"Classes of head {report.head}")
    if report.accuracy is None:
        say_table(("class", ">share"), [(name, f"{share:.1%}") for name, share in report.coverage.items()])
    else:
        iou = report.accuracy.iou
        say_table(
            ("class", ">share", ">IoU"),
            [(name, f"{share:.1%}", _share_text(iou[name])) for name, share in report.coverage.items()],
        )
        say(
            f"mIoU {_share_text(report.accuracy.miou)}, "
            f"right pixels {_share_text(report.accuracy.pixel_accuracy)} (of those with a label)"
        )
    if report.no_accuracy:
        say(f"no mIoU: {report.no_accuracy}")


def _share_text(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


def _show_files(files: list[str]) -> None:
    if files:
        heading("Written")
        for file in files:
            say(f"  {file}")
