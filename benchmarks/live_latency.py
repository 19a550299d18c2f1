"""How old a result is when it reaches the program: PixelRT's stream and what people write or pick today.

In each round every contender (`live_contenders.py`), in a process of its own,

  live      watches a camera (`live_camera.py`, 720x1280, 30 frames a second over TCP) for a minute, with a
            network that takes about two frames on the one core that it gets. The age of a picture is what the
            camera and the contender note of the number in its pixels: from when the frame was sent to when
            its overlay is in the hands of the program. `first` and `last` are the first and the last sixth
            of the time, after as much for setting up. Where PixelRT's ages come from is shown.
  file      goes through a film as fast as it can, again and again, in turns with the network alone on ready
            frames, which is the limit (`live_film.py`); `control` is that network beside another process that
            decodes and draws at the same rate: what two busy cores cost on this machine, whoever's they are
  overlay   draws the classes over a frame of 1080x1920 on one core, against OpenCV by hand and `supervision`

python benchmarks/live_latency.py [--rounds 1] [--seconds 60] [--pairs 6] [--frames 50] [--threads 1]
needs: pip install -e '.[cpu,video,export,bench]', pixelrt export engines/road-unet/recipe.toml, 8 minutes
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
import live_film
import numpy as np
from harness import Setting
from live_contenders import CONTENDERS, WHOLE
from numpy.typing import NDArray

from pixelrt.machine import processor
from pixelrt.terminal import complain, say, say_table
from pixelrt.video.delivery import Times

OVERLAYS = ("pixelrt", "opencv", "supervision")
_CONTROL = "network beside another process"
_LIBRARIES = ("model_api", "supervision")
"""What may be missing; the names of contenders begin with what they need."""
_OVERLAY_SIZE = (1080, 1920)
_OVERLAY_LIMIT_MS = 4.0
_THROUGHPUT_LIMIT = 0.95
_MARGIN_S = 6
"""The film is longer than the watching by this much: a stream may be probed before it gives frames."""
_WINDOWS = 6

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
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=60.0, help="of watching the camera, per round")
    parser.add_argument("--pairs", type=int, default=6, help="films and networks in turn, per round")
    parser.add_argument("--frames", type=int, default=50, help="of the film")
    parser.add_argument("--threads", type=int, default=1, help="of the network (1: a core is left)")
    parser.add_argument(
        "--precision",
        choices=("float32", "bfloat16"),
        default="bfloat16" if processor().bfloat16 else "float32",
    )
    harness.add_result_file(parser, "live_latency")
    parser.add_argument("--task", choices=tuple(_TASKS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if min(arguments.seconds, arguments.frames) < 2 or min(arguments.rounds, arguments.pairs) < 1:
        parser.error("expected at least --seconds 2, --frames 2, --rounds 1 and --pairs 1")
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
    network_ms = statistics.median(
        each["network_ms"]
        for task in ("control", "file")
        for _, rounds in _of_task(found, task)
        for each in rounds
    )
    _show(found, network_ms)
    figures = {
        "bundle": harness.about(arguments.bundle),
        "precision": arguments.precision,
        "threads": arguments.threads,
        "frame_size": harness.SIZE,
        "fps": live_camera.FPS,
        "seconds": arguments.seconds,
        "network_alone_ms": network_ms,
        "file_against_network": {
            name: _median(rounds, "ratio")
            for task in ("file", "control")
            for name, rounds in _of_task(found, task)
        },
        "rounds": {f"{task}: {name}": results for (task, name), results in found.items()},
    }
    return harness.finish("live_latency", figures, _bars(found, network_ms), before, arguments.out)


def _turns() -> list[tuple[str, str]]:
    """Who does what; what is long and what is short take turns."""
    left_out = tuple(library for library in _LIBRARIES if not _installed(library))
    longer = [[("live", name)] for name in CONTENDERS]
    shorter = [[("file", name)] for name in WHOLE] + [[("overlay", name) for name in OVERLAYS]]
    shorter[0].append(("control", _CONTROL))
    in_turn = itertools.chain.from_iterable(itertools.zip_longest(longer, shorter, fillvalue=()))
    everybody = itertools.chain.from_iterable(in_turn)
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
    live_camera.make_film(folder / "live.flv", round((arguments.seconds + _MARGIN_S) * live_camera.FPS))
    live_camera.make_film(folder / "file.flv", arguments.frames)
    names = ("seconds", "frames", "pairs", "threads", "precision")
    return [*shared, *(word for name in names for word in (f"--{name}", str(getattr(arguments, name))))]


def _short(task: str, result: Found) -> str:
    if task == "live":
        return f"p50 {result['all']['p50_ms']:.0f} ms, p99 {result['all']['p99_ms']:.0f} ms"
    if task == "overlay":
        return ", ".join(f"{name} {times['median_ms']:.2f} ms" for name, times in result.items())
    return f"{result['fps']:.1f} fps, {result['ratio']:.3f} of the network alone"


def _show(found: Rounds, network_ms: float) -> None:
    say(f"\nthe network alone: {network_ms:.1f} ms a frame\n")
    _show_ages(found)
    _show_parts(found["live", "pixelrt"])
    _show_films(found)
    overlays = [
        (name, f"{_median([each[name] for each in rounds], 'median_ms'):.2f}")
        for _, rounds in _of_task(found, "overlay")
        for name in rounds[0]
    ]
    say_table(("overlay at 1080x1920, one core", ">ms"), overlays)
    say()
    for task in ("live", "file", "control"):
        for name, rounds in _of_task(found, task):
            _show_profile(f"{task}: {name}", rounds)


def _show_ages(found: Rounds) -> None:
    spans = list(itertools.product(("first", "last", "all"), ("p50", "p99")))
    rows = []
    for name, rounds in _of_task(found, "live"):
        ages = [_median([each[span] for each in rounds], f"{quantile}_ms") for span, quantile in spans]
        rows.append((name, *(f"{age_ms:.0f}" for age_ms in ages), f"{_median(rounds, 'fps'):.1f}"))
    say_table(("live, age in ms", *(f">{span} {quantile}" for span, quantile in spans), ">fps"), rows)
    say()


def _show_parts(rounds: Sequence[Found]) -> None:
    """Where the ages of PixelRT's results come from."""
    quantiles = ("p50_ms", "p99_ms")
    parts = {
        part: [_median([each["parts"][part] for each in rounds], quantile) for quantile in quantiles]
        for part in rounds[0]["parts"]
    }
    whole_ms = _median([each["all"] for each in rounds], "p50_ms")
    rows = [
        (part, f"{p50_ms:.1f}", f"{p99_ms:.1f}", f"{p50_ms / whole_ms:.0%}")
        for part, (p50_ms, p99_ms) in parts.items()
    ]
    say_table(("live, pixelrt: part of the age", ">p50 ms", ">p99 ms", ">of p50"), rows)
    say()


def _show_films(found: Rounds) -> None:
    rows = [
        (
            name,
            f"{_median(rounds, 'fps'):.2f}",
            f"{_median(rounds, 'ratio'):.3f}",
            " ".join(f"{pair['ratio']:.3f}" for each in rounds for pair in each["pairs"]),
        )
        for task in ("file", "control")
        for name, rounds in _of_task(found, task)
    ]
    say_table(("file", ">fps", ">of the network alone", "each against its neighbours"), rows)
    film, control = found["file", "pixelrt"], found["control", _CONTROL]
    rest = _median(film, "ratio") / _median(control, "ratio")
    say(f"pixelrt's film against the network beside another process: {rest:.3f}\n")


def _show_profile(what: str, rounds: Sequence[Found]) -> None:
    stages = {stage: _median([each["profile"] for each in rounds], stage) for stage in rounds[0]["profile"]}
    if stages:
        say(f"{what}: " + ", ".join(f"{stage} {time_ms:.1f} ms" for stage, time_ms in stages.items()))


def _bars(found: Rounds, network_ms: float) -> list[harness.Bar]:
    latency_limit_ms = 2 * network_ms + 1e3 / live_camera.FPS
    worst_ms = max(each["all"]["p99_ms"] for each in found["live", "pixelrt"])
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
            "pixelrt: a film's rate / that of the network alone before and after it, median",
            round(_median(found["file", "pixelrt"], "ratio"), 4),
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


def _live(arguments: argparse.Namespace) -> Found:
    contender = CONTENDERS[arguments.contender](Setting.of(arguments))
    times = arguments.folder / "times.npy"
    film = live_camera.Film(arguments.folder / "live.flv")
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
        "parts": _parts(contender.times(), sent_s[numbers], np.array(delivered_s), arguments.seconds),
    }


def _parts(times: Sequence[Times], sent_s: Floats, drawn_s: Floats, seconds: float) -> Found:
    """Where ages come from, of the same frames as `all`; empty for a contender that does not know."""
    if not times:
        return {}
    at_s = drawn_s - drawn_s[0]
    noted = [(each.captured_s, each.received_s, each.delivered_s) for each in times]
    captured_s, received_s, delivered_s = np.array(noted[: drawn_s.size]).T
    spans_s = {
        "transport: sent to first byte": captured_s - sent_s,
        "decoder: first byte to picture": received_s - captured_s,
        "loop: picture to delivery": delivered_s - received_s,
        "drawing: delivery to overlay": drawn_s - delivered_s,
        "the stream's own: first byte to delivery": delivered_s - captured_s,
    }
    return {
        part: _quantiles(part, _windows(at_s, 1e3 * span_s, seconds)["all"])
        for part, span_s in spans_s.items()
    }


def _windows(at_s: Floats, ages_ms: Floats, seconds: float) -> dict[str, Floats]:
    """Ages in parts of the time, without the first part."""
    span_s = seconds / _WINDOWS
    spans = {"first": (span_s, 2 * span_s), "last": (seconds - span_s, np.inf), "all": (span_s, np.inf)}
    return {name: ages_ms[(at_s >= begin) & (at_s < end)] for name, (begin, end) in spans.items()}


def _overlay(arguments: argparse.Namespace) -> Found:
    """All that one library draws, one after the other."""
    import cv2

    cv2.setNumThreads(1)
    everybody = live_contenders.overlays(Setting.of(arguments), _OVERLAY_SIZE)
    drawers = {name: draw for name, draw in everybody.items() if name.startswith(arguments.contender)}
    return {name: harness.timed(draw, arguments.frames) for name, draw in drawers.items()}


def _quantiles(what: str, ages_ms: Floats) -> Found:
    if not ages_ms.size:
        raise SystemExit(f"{what}: no frame came in this part of the time; give more --seconds")
    p50, p99 = np.percentile(ages_ms, (50, 99))
    return {"p50_ms": float(p50), "p99_ms": float(p99), "max_ms": float(ages_ms.max())}


_TASKS: dict[str, Callable[[argparse.Namespace], Found]] = {
    "live": _live,
    "file": live_film.between_networks,
    "control": live_film.beside_decoding,
    "overlay": _overlay,
}

if __name__ == "__main__":
    sys.exit(main())
