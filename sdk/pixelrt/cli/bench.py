"""`pixelrt bench`: how long a bundle takes here, with its accuracy and the state of the machine beside."""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import re
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelrt.bundle import Bundle, write_file
from pixelrt.errors import BundleError, SinkError
from pixelrt.machine import Load, describe, load, peak_memory_bytes
from pixelrt.manifest import GateCheck
from pixelrt.segmentation import Segmenter
from pixelrt.segmentation import load as load_segmenter
from pixelrt.terminal import complain, heading, say, say_pairs, say_table, size_text, styled

_EPILOG = """\
examples:
  pixelrt bench engines/road-unet/bundle
  pixelrt bench engines/road-unet/bundle --size 1080x1920 --frames 500
  pixelrt bench engines/road-unet/bundle --backend openvino --precision float32 --threads 2
  pixelrt bench engines/road-unet/bundle --json bench.json

The time is that of segmenter(frame): resizing, the network, mask, confidence and grid. The frames are noise,
made with a seed before the clock starts. Reading, drawing and encoding video are measured by `pixelrt run`.
"""

_DISTINCT_FRAMES = 8
_SEED = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Durations in milliseconds."""

    mean_ms: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float

    @classmethod
    def of(cls, durations_ms: list[float]) -> Spread:
        """Summarise."""
        p50, p95, p99 = (float(value) for value in np.percentile(durations_ms, (50, 95, 99)))
        mean, largest = float(np.mean(durations_ms)), max(durations_ms)
        rounded = (round(value, 3) for value in (mean, p50, p95, p99, largest))
        return cls(**dict(zip(cls.__dataclass_fields__, rounded, strict=True)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What was measured."""

    frames: int
    warmup_frames: int
    frame_size: tuple[int, int]
    """Height and width."""
    load_s: float
    """From the call of `load` to the segmenter, with the import of the backend's library."""
    first_mask_s: float
    """From the call of `load` to the first result."""
    frames_per_s: float
    stages: dict[str, Spread]
    """`prepare`, `network`, and `end_to_end` as seen by the caller."""
    peak_memory_bytes: int | None
    """Of the whole process."""


def add_parser(subparsers: Any) -> None:
    """Add the command to the parser of `pixelrt`."""
    parser = subparsers.add_parser(
        "bench",
        help="measure how long a bundle takes on this machine",
        description="Measure how long a bundle takes per frame on this machine.",
        epilog=_EPILOG,
    )
    parser.add_argument("bundle", metavar="BUNDLE", help="folder of a bundle")
    parser.add_argument("--frames", type=_count, default=200, metavar="N", help="frames to measure (200)")
    parser.add_argument(
        "--warmup", type=_count, default=20, metavar="N", help="frames before them that do not count (20)"
    )
    parser.add_argument(
        "--size", type=_size, default=(720, 1280), metavar="HxW", help="size of the frames (720x1280)"
    )
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="where to run (auto)"
    )
    parser.add_argument("--backend", metavar="NAME", help="openvino, onnxruntime or tensorrt (the best)")
    parser.add_argument(
        "--precision",
        choices=("float32", "bfloat16", "float16"),
        help="how to compute (the fastest that passed the gate)",
    )
    parser.add_argument("--threads", type=_count, metavar="N", help="CPU threads (one per core)")
    parser.add_argument("--json", metavar="FILE", help="write everything to FILE; - for standard output")


def run(arguments: argparse.Namespace) -> int:
    """Measure, print, and write the JSON if asked for."""
    bundle = Bundle.open(arguments.bundle)
    before = load()
    if before.busy:
        complain(f"warning: {_busy_text(before)}")
    segmenter, measured = _measure(bundle, arguments)
    with segmenter:
        info = segmenter.session.info
        checks = [
            check
            for check in bundle.manifest.gate.checks
            if (check.backend, check.precision) == (info.backend, info.precision)
        ]
        report = {
            "command": ["pixelrt", *sys.argv[1:]],
            "measured_at": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "bundle": {"path": str(bundle.path), "name": bundle.manifest.name, "sha256": bundle.model.sha256},
            "session": dataclasses.asdict(info),
            "threads": arguments.threads,
            "measurement": dataclasses.asdict(measured),
            "gate": [dataclasses.asdict(check) for check in checks],
            "load_before": {**dataclasses.asdict(before), "busy": before.busy},
            "load_after": dataclasses.asdict(load()),
            "machine": dataclasses.asdict(describe()),
        }
    if arguments.json == "-":
        say(json.dumps(report, indent=2))
        return 0
    _show(segmenter, measured, checks, before)
    if arguments.json:
        _write(Path(arguments.json), report)
    return 0


def _measure(bundle: Bundle, arguments: argparse.Namespace) -> tuple[Segmenter, Measurement]:
    frames = _frames(arguments.size, bundle.manifest.preprocess.channels)
    began = time.perf_counter()
    segmenter = load_segmenter(
        bundle,
        device=arguments.device,
        backend=arguments.backend,
        precision=arguments.precision,
        threads=arguments.threads,
    )
    loaded = time.perf_counter()
    segmenter(frames[0])
    first = time.perf_counter()
    for index in range(arguments.warmup):
        segmenter(frames[index % len(frames)])
    durations: dict[str, list[float]] = {"prepare": [], "network": [], "end_to_end": []}
    started = time.perf_counter()
    for index in range(arguments.frames):
        called = time.perf_counter()
        latency = segmenter(frames[index % len(frames)]).latency
        durations["end_to_end"].append((time.perf_counter() - called) * 1e3)
        durations["prepare"].append(latency.prepare_ms)
        durations["network"].append(latency.network_ms)
    ended = time.perf_counter()
    return segmenter, Measurement(
        frames=arguments.frames,
        warmup_frames=arguments.warmup + 1,
        frame_size=arguments.size,
        load_s=round(loaded - began, 3),
        first_mask_s=round(first - began, 3),
        frames_per_s=round(arguments.frames / (ended - started), 2),
        stages={stage: Spread.of(values) for stage, values in durations.items()},
        peak_memory_bytes=peak_memory_bytes(),
    )


def _frames(size: tuple[int, int], channels: int) -> list[NDArray[np.uint8]]:
    """Several different ones, so that no cache holds the only frame."""
    random = np.random.default_rng(_SEED)
    return [random.integers(0, 256, (*size, channels), np.uint8) for _ in range(_DISTINCT_FRAMES)]


def _show(segmenter: Segmenter, measured: Measurement, checks: list[GateCheck], before: Load) -> None:
    info = segmenter.session.info
    height, width = measured.frame_size
    peak = measured.peak_memory_bytes
    say(styled(f"{segmenter.bundle.manifest.name}, {measured.frames} frames of {height}x{width}", "bold"))
    say_pairs(
        [
            ("runs on", f"{info.backend} {info.version}, {info.device}, {info.precision}"),
            ("because", info.why),
            ("load", f"{measured.load_s:.2f} s; first mask after {measured.first_mask_s:.2f} s"),
            ("throughput", f"{measured.frames_per_s:.1f} frames/s"),
            ("peak memory", size_text(peak) if peak is not None else "unknown"),
            ("machine", _busy_text(before) if before.busy else "quiet before the measurement"),
        ]
    )
    heading(f"Milliseconds per frame, after {measured.warmup_frames} frames of warm-up")
    say_table(
        ("stage", ">p50", ">p95", ">p99", ">mean", ">max"),
        [_stage_row(stage, spread) for stage, spread in measured.stages.items()],
    )
    heading("Accuracy, as the gate measured it at the export")
    for check in checks:
        miou = "" if check.miou is None else f", mIoU {check.miou:.4f}"
        verdict = "passed" if check.passed else "FAILED"
        say(f"  {check.head}: {check.agreement:.5f} of the pixels as PyTorch in float32{miou} ({verdict})")
    if not checks:
        say(f"  not measured for {info.backend} in {info.precision}")


def _stage_row(stage: str, spread: Spread) -> tuple[str, ...]:
    values = (spread.p50_ms, spread.p95_ms, spread.p99_ms, spread.mean_ms, spread.max_ms)
    return (stage.replace("_", " "), *(f"{value:.2f}" for value in values))


def _busy_text(now: Load) -> str:
    return (
        f"busy: {now.busy_share or 0:.0%} of all cores were in use before the measurement "
        f"(load average {now.average_1min}); the figures come out slower than they are"
    )


def _write(file: Path, report: dict[str, Any]) -> None:
    try:
        write_file(file, (json.dumps(report, indent=2) + "\n").encode())
    except BundleError as problem:
        raise SinkError(str(problem)) from problem


def _count(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least 1")
    return number


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if match is None or "0" in match.groups():
        raise argparse.ArgumentTypeError(f"{text!r} is no size; give height x width, such as 720x1280")
    return int(match.group(1)), int(match.group(2))
