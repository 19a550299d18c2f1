"""What it costs to segment in a child process (`pixelrt.isolate`) instead of in this one.

Both take turns at the same 720x1280 frames, frame by frame, so that whatever else the machine does meets
both. The child and this process each have a loaded network with its threads; only one of them computes.
The difference per frame is the hand-over: two copies through shared memory and two messages.

Then a stream of frames goes through the child, whose masks are scaled to the frame's size here: call by call,
submitted (the next frame is handed over, and the last mask scaled, while the child computes), and submitted
from frame buffers, which the child reads in place.

python benchmarks/isolation.py [--bundle DIR] [--rounds 5] [--frames 60] [--threads 2]
"""

from __future__ import annotations

import argparse
import collections
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import harness

import pixelrt
from pixelrt.isolation import IsolatedSegmenter, IsolatedTicket, isolate
from pixelrt.machine import processor
from pixelrt.segmentation import Segmentation, Segmenter
from pixelrt.terminal import say

_WARMUP = 10
_OVERHEAD_LIMIT_MS = 2.0
_START_LIMIT_S = 2.0


def main() -> int:
    """Measure in turns."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", type=Path, default=harness.BUNDLE)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--frames", type=int, default=60, help="measured per round, after a warm-up")
    parser.add_argument("--threads", type=int, default=processor().cores)
    harness.add_result_file(parser, "isolation")
    arguments = parser.parse_args()
    before = harness.quiet_or_warn()
    began_s = time.perf_counter()
    here = pixelrt.load(arguments.bundle, device="cpu", threads=arguments.threads)
    load_s = time.perf_counter() - began_s
    with here, isolate(arguments.bundle, device="cpu", threads=arguments.threads) as there:
        starts_s = _starts(there, arguments.rounds)
        rounds = [
            _round(here, there, arguments.frames) | _streams(there, arguments.frames)
            for _ in range(arguments.rounds)
        ]
        info = there.session_info
    medians = {name: round(statistics.median(each[name] for each in rounds), 4) for name in rounds[0]}
    start_s = statistics.median(starts_s)
    say(f"{info.backend} {info.version}, {info.device}, {info.precision}; medians of {len(rounds)} rounds")
    say(f"  in this process          {medians['here_ms']:.2f} ms a frame")
    say(f"  in a child process       {medians['there_ms']:.2f} ms")
    say(
        f"  handing over             {medians['handing_over_ms']:.2f} ms (total less what the child measures)"
    )
    say(f"  a stream, call by call   {medians['called_fps']:.1f} frames/s, masks scaled to the frame")
    say(f"    submitted              {medians['submitted_fps']:.1f} frames/s")
    say(f"    from frame buffers     {medians['buffered_fps']:.1f} frames/s")
    say(f"  loading here             {load_s:.2f} s, the first time")
    say(f"  starting a child         {start_s:.2f} s, until its bundle is loaded")
    bars = [
        harness.Bar("handing over, ms", medians["handing_over_ms"], _OVERHEAD_LIMIT_MS, at_most=True),
        harness.Bar("starting a child, s", round(start_s, 4), _START_LIMIT_S, at_most=True),
    ]
    figures = {
        "bundle": harness.about(arguments.bundle),
        "threads": arguments.threads,
        "frame_size": harness.SIZE,
        "session": f"{info.backend} {info.version}, {info.device}, {info.precision}",
        "medians": medians,
        "load_s": load_s,
        "starts_s": starts_s,
        "rounds": rounds,
    }
    return harness.finish("isolation", figures, bars, before, arguments.out)


def _starts(there: IsolatedSegmenter, count: int) -> list[float]:
    starts_s = []
    for _ in range(count):
        there.restart()
        starts_s.append(there.start_s or 0.0)
    return starts_s


def _round(here: Segmenter, there: IsolatedSegmenter, count: int) -> dict[str, float]:
    frames = harness.drive(8)
    times: dict[str, list[float]] = {"here_ms": [], "there_ms": [], "handing_over_ms": []}
    for index in range(-_WARMUP, count):
        frame = frames[index % len(frames)]
        if index % 2:
            one, other = _timed(here, frame), _timed(there, frame)
        else:
            other, one = _timed(there, frame), _timed(here, frame)
        if index < 0:
            continue
        latency = other[1].latency
        times["here_ms"].append(one[0])
        times["there_ms"].append(other[0])
        times["handing_over_ms"].append(other[0] - latency.prepare_ms - latency.network_ms)
    return {name: statistics.median(values) for name, values in times.items()}


def _streams(there: IsolatedSegmenter, count: int) -> dict[str, float]:
    """Frames per second through the child, masks scaled to the size of the frames."""
    frames = harness.drive(8)
    buffers = [there.frame_buffer(harness.SIZE) for _ in frames]
    for buffer, frame in zip(buffers, frames, strict=True):
        buffer[:] = frame
    ways: dict[str, Callable[[int], None]] = {
        "called_fps": lambda count: _call(there, frames, count),
        "submitted_fps": lambda count: _submit(there, frames, count),
        "buffered_fps": lambda count: _submit(there, buffers, count),
    }
    rates = {}
    for name, way in ways.items():
        way(_WARMUP)
        began_s = time.perf_counter()
        way(count)
        rates[name] = count / (time.perf_counter() - began_s)
    return rates


def _call(there: IsolatedSegmenter, frames: list[Any], count: int) -> None:
    for index in range(count):
        there(frames[index % len(frames)]).mask_at(harness.SIZE)


def _submit(there: IsolatedSegmenter, frames: list[Any], count: int) -> None:
    tickets: collections.deque[IsolatedTicket] = collections.deque()
    for index in range(count):
        tickets.append(there.submit(frames[index % len(frames)]))
        if len(tickets) == there.slots:
            tickets.popleft().result().mask_at(harness.SIZE)
    for ticket in tickets:
        ticket.result().mask_at(harness.SIZE)


def _timed(segmenter: Any, frame: Any) -> tuple[float, Segmentation]:
    began_s = time.perf_counter()
    result = segmenter(frame)
    return (time.perf_counter() - began_s) * 1e3, result


if __name__ == "__main__":
    sys.exit(main())
