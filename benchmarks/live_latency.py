"""How old a result is when it reaches the program: PixelRT's stream and what people write or pick today.

In each round every contender (`live_contenders.py`), in a process of its own,

  live      watches a camera (`live_camera.py`, 720x1280, 30 frames a second over TCP) for a minute, with a
            network that takes about two frames on the one core that it gets. The age of a picture is what the
            camera and the contender note of the number in its pixels: from when the frame was sent to when
            its overlay is in the hands of the program. `first` and `last` are the first and the last sixth
            of the time, after as much for setting up.
  file      goes through a film as fast as it can; the network alone, on ready frames, is the limit
  overlay   draws the classes over a frame of 1080x1920 on one core, against OpenCV by hand and `supervision`

python benchmarks/live_latency.py [--rounds 2] [--seconds 60] [--frames 50] [--threads 1]
needs: pip install -e '.[cpu,video,export,bench]'
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import harness
import live_camera
import live_contenders
import numpy as np
from harness import Setting
from live_contenders import CONTENDERS, WHOLE, Contender
from numpy.typing import NDArray

from pixelrt.machine import processor
from pixelrt.terminal import complain, say, say_table

OVERLAYS = ("pixelrt", "opencv", "supervision")
_LIBRARIES = ("model_api", "supervision")
"""What may be missing; the names of contenders begin with what they need."""
_OVERLAY_SIZE = (1080, 1920)
_OVERLAY_LIMIT_MS = 4.0
_THROUGHPUT_LIMIT = 0.95
_MARGIN_S = 6
"""The film is longer than the watching by this much: a stream may be probed before it gives frames."""
_WINDOWS = 6
_WARMUP = 5

Floats = NDArray[np.float64]
Found = dict[str, Any]
Rounds = dict[tuple[str, str], list[Found]]
"""What was found in each round, by task and contender."""


def main() -> int:
    """Make the films, let the contenders take turns, judge."""
    arguments = _arguments()
    if arguments.task:
        return harness.answer(_TASKS[arguments.task](arguments))
    return _compare(arguments)


def _arguments() -> argparse.Namespace:
    parser = harness.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=60.0, help="of watching the camera, per round")
    parser.add_argument("--frames", type=int, default=50, help="of the film, per round")
    parser.add_argument("--threads", type=int, default=1, help="of the network (1: a core is left)")
    parser.add_argument(
        "--precision",
        choices=("float32", "bfloat16"),
        default="bfloat16" if processor().bfloat16 else "float32",
    )
    parser.add_argument(
        "--json", dest="out", type=Path, help="result file (benchmarks/results/live_latency.json)"
    )
    parser.add_argument("--task", choices=tuple(_TASKS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.seconds < 2 or arguments.frames < 2 or arguments.rounds < 1:
        parser.error("expected at least --seconds 2, --frames 2 and --rounds 1")
    return arguments


# ------------------------------------------------------------------------------------------------- the parent


def _compare(arguments: argparse.Namespace) -> int:
    before = harness.quiet_or_warn()
    turns = _turns()
    found: Rounds = {turn: [] for turn in turns}
    with tempfile.TemporaryDirectory() as folder:
        options = _prepare(arguments, Path(folder))
        for number in range(arguments.rounds):
            for task, name in _order(turns, number):
                result = harness.child("live_latency.py", "--task", task, "--contender", name, *options)
                found[task, name].append(result)
                complain(f"round {number + 1}: {task}: {name}: {_short(task, result)}")
    network_ms = _median(found["network", "pixelrt"], "median_ms")
    network_fps = 1e3 / _median(found["network", "pixelrt"], "mean_ms")  # over a whole run, as of a film
    _show(found, network_ms, network_fps)
    figures = {
        "bundle": harness.about(arguments.bundle),
        "precision": arguments.precision,
        "threads": arguments.threads,
        "frame_size": harness.SIZE,
        "fps": live_camera.FPS,
        "seconds": arguments.seconds,
        "network_alone_ms": network_ms,
        "network_alone_fps": network_fps,
        "rounds": {f"{task}: {name}": results for (task, name), results in found.items()},
    }
    return harness.finish(
        "live_latency", figures, _bars(found, network_ms, network_fps), before, arguments.out
    )


def _turns() -> list[tuple[str, str]]:
    """Who does what."""
    left_out = tuple(library for library in _LIBRARIES if not _installed(library))
    everybody = [
        ("network", "pixelrt"),
        *(("live", name) for name in CONTENDERS),
        *(("file", name) for name in WHOLE),
        *(("overlay", name) for name in OVERLAYS),
    ]
    return [(task, name) for task, name in everybody if not name.startswith(left_out)]


def _installed(library: str) -> bool:
    found = importlib.util.find_spec(library) is not None
    if not found:
        complain(f"warning: without {library}, which is not installed: pip install 'pixelrt[bench]'")
    return found


def _order(turns: list[tuple[str, str]], number: int) -> list[tuple[str, str]]:
    """Another one begins each round."""
    start = (number * 2) % len(turns)
    return turns[start:] + turns[:start]


def _prepare(arguments: argparse.Namespace, folder: Path) -> list[str]:
    say("writing the bare network and the films")
    shared = ["--bundle", str(arguments.bundle), "--folder", str(folder)]
    harness.child("cpu_overhead.py", "--prepare", "--recipe", str(arguments.recipe), *shared)
    live_camera.make_film(folder / "live.ts", round((arguments.seconds + _MARGIN_S) * live_camera.FPS))
    live_camera.make_film(folder / "file.ts", arguments.frames)
    rest = {"seconds": arguments.seconds, "frames": arguments.frames, "threads": arguments.threads}
    words = [word for name, value in rest.items() for word in (f"--{name}", str(value))]
    return [*shared, *words, "--precision", arguments.precision]


def _short(task: str, result: Found) -> str:
    if task == "live":
        return f"p50 {result['all']['p50_ms']:.0f} ms, p99 {result['all']['p99_ms']:.0f} ms"
    if task == "overlay":
        return ", ".join(f"{name} {times['median_ms']:.2f} ms" for name, times in result.items())
    return f"{result['fps']:.1f} fps" if task == "file" else f"{result['median_ms']:.2f} ms"


def _show(found: Rounds, network_ms: float, network_fps: float) -> None:
    say(f"\nthe network alone: {network_ms:.1f} ms a frame, {network_fps:.2f} fps\n")
    spans = list(itertools.product(("first", "last", "all"), ("p50", "p99")))
    rows = []
    for name, rounds in _of_task(found, "live"):
        ages = [_median([each[span] for each in rounds], f"{quantile}_ms") for span, quantile in spans]
        rows.append((name, *(f"{age_ms:.0f}" for age_ms in ages), f"{_median(rounds, 'fps'):.1f}"))
    say_table(("live, age in ms", *(f">{span} {quantile}" for span, quantile in spans), ">fps"), rows)
    say()
    files = [(name, _median(rounds, "fps")) for name, rounds in _of_task(found, "file")]
    say_table(
        ("file", ">fps", ">of the network alone"),
        [(name, f"{fps:.2f}", f"{fps / network_fps:.3f}") for name, fps in files],
    )
    say()
    overlays = [
        (name, f"{_median([each[name] for each in rounds], 'median_ms'):.2f}")
        for _, rounds in _of_task(found, "overlay")
        for name in rounds[0]
    ]
    say_table(("overlay at 1080x1920, one core", ">ms"), overlays)
    for task in ("live", "file"):
        for name, rounds in _of_task(found, task):
            _show_profile(f"{task}: {name}", rounds)


def _show_profile(what: str, rounds: Sequence[Found]) -> None:
    stages = {stage: _median([each["profile"] for each in rounds], stage) for stage in rounds[0]["profile"]}
    if stages:
        say(f"{what}: " + ", ".join(f"{stage} {time_ms:.1f} ms" for stage, time_ms in stages.items()))


def _bars(found: Rounds, network_ms: float, network_fps: float) -> list[harness.Bar]:
    latency_limit_ms = 2 * network_ms + 1e3 / live_camera.FPS
    worst_ms = max(each["all"]["p99_ms"] for each in found["live", "pixelrt"])
    throughput = _median(found["file", "pixelrt"], "fps") / network_fps
    overlay_ms = _overlay_ms(found, "pixelrt")
    theirs_ms = _overlay_ms(found, "supervision") if ("overlay", "supervision") in found else None
    return [
        harness.Bar(
            "pixelrt: worst p99 from capture to delivery, ms (2 inference times and a frame)",
            round(worst_ms, 1),
            round(latency_limit_ms, 1),
            at_most=True,
        ),
        harness.Bar(
            "pixelrt: frames a second of a film / of the network alone",
            round(throughput, 4),
            _THROUGHPUT_LIMIT,
            at_most=False,
        ),
        harness.Bar("pixelrt: overlay, ms", round(overlay_ms, 3), _OVERLAY_LIMIT_MS, at_most=True),
        harness.Bar(
            "overlay: supervision / pixelrt",
            None if theirs_ms is None else round(theirs_ms / overlay_ms, 2),
            1.0,
            at_most=False,
            why_not="" if theirs_ms else "supervision is not installed",
        ),
    ]


def _overlay_ms(found: Rounds, name: str) -> float:
    return _median([each[name] for each in found["overlay", name]], "median_ms")


def _of_task(found: Rounds, task: str) -> list[tuple[str, list[Found]]]:
    return [(name, rounds) for (kind, name), rounds in found.items() if kind == task]


def _median(results: Sequence[Found], figure: str) -> float:
    return float(statistics.median(each[figure] for each in results))


# ----------------------------------------------------------------------------------------------- the children


def _network(arguments: argparse.Namespace) -> Found:
    """The network on ready frames, nothing else at work."""
    segmenter, frames = live_contenders.segmenter_of(Setting.of(arguments)), itertools.cycle(harness.drive(4))
    return _timed(lambda: segmenter(next(frames)), arguments.frames)


def _live(arguments: argparse.Namespace) -> Found:
    contender = _contender(arguments)
    times = arguments.folder / "times.npy"
    film = live_camera.Film(arguments.folder / "live.ts")
    numbers, delivered_s = [], []
    with live_camera.camera(film, times) as address:
        pictures = contender.open(address)
        for frame, _ in pictures:
            delivered_s.append(time.monotonic())
            numbers.append(live_camera.number_of(frame))
            if delivered_s[-1] - delivered_s[0] >= arguments.seconds:
                break
        pictures.close()  # type: ignore[attr-defined]  # a generator, which ends its stream here
        sent_s = np.load(times)
    if sorted(set(numbers)) != numbers:
        raise SystemExit(f"{arguments.contender}: frames came twice or out of order")
    at_s = np.array(delivered_s) - delivered_s[0]
    ages_ms = 1e3 * (np.array(delivered_s) - sent_s[numbers])
    windows = _windows(at_s, ages_ms, arguments.seconds)
    return {
        **{name: _quantiles(f"{arguments.contender}: {name}", window) for name, window in windows.items()},
        "fps": windows["all"].size / (at_s[-1] - arguments.seconds / _WINDOWS),
        "frames": len(numbers),
        "sent": int(np.isfinite(sent_s).sum()),
        "profile": contender.profile(),
    }


def _windows(at_s: Floats, ages_ms: Floats, seconds: float) -> dict[str, Floats]:
    """Ages in parts of the time, without the first part."""
    span_s = seconds / _WINDOWS
    spans = {"first": (span_s, 2 * span_s), "last": (seconds - span_s, np.inf), "all": (span_s, np.inf)}
    return {name: ages_ms[(at_s >= begin) & (at_s < end)] for name, (begin, end) in spans.items()}


def _file(arguments: argparse.Namespace) -> Found:
    contender = _contender(arguments)
    numbers, delivered_s = [], []
    for frame, _ in contender.open(str(arguments.folder / "file.ts")):
        delivered_s.append(time.perf_counter())
        numbers.append(live_camera.number_of(frame))
    if numbers != list(range(arguments.frames)):
        raise SystemExit(f"{arguments.contender}: {len(numbers)} of {arguments.frames} frames came")
    skipped = min(_WARMUP, len(numbers) - 2)
    seconds = delivered_s[-1] - delivered_s[skipped]
    return {"fps": (len(numbers) - 1 - skipped) / seconds, "profile": contender.profile()}


def _overlay(arguments: argparse.Namespace) -> Found:
    """All that one library draws, one after the other."""
    import cv2

    cv2.setNumThreads(1)
    everybody = live_contenders.overlays(Setting.of(arguments), _OVERLAY_SIZE)
    drawers = {name: draw for name, draw in everybody.items() if name.startswith(arguments.contender)}
    return {name: _timed(draw, arguments.frames) for name, draw in drawers.items()}


def _contender(arguments: argparse.Namespace) -> Contender:
    return CONTENDERS[arguments.contender](Setting.of(arguments))


def _timed(step: Callable[[], Any], times: int) -> Found:
    for _ in range(_WARMUP):
        step()
    durations_ms = []
    for _ in range(times):
        began = time.perf_counter()
        step()
        durations_ms.append(1e3 * (time.perf_counter() - began))
    return {
        "median_ms": statistics.median(durations_ms),
        "mean_ms": statistics.fmean(durations_ms),
        "p99_ms": float(np.percentile(durations_ms, 99)),
        "max_ms": max(durations_ms),
    }


def _quantiles(what: str, ages_ms: Floats) -> Found:
    if not ages_ms.size:
        raise SystemExit(f"{what}: no frame came in this part of the time; give more --seconds")
    p50, p99 = np.percentile(ages_ms, (50, 99))
    return {"p50_ms": float(p50), "p99_ms": float(p99), "max_ms": float(ages_ms.max())}


_TASKS: dict[str, Callable[[argparse.Namespace], Found]] = {
    "network": _network,
    "live": _live,
    "file": _file,
    "overlay": _overlay,
}

if __name__ == "__main__":
    sys.exit(main())
