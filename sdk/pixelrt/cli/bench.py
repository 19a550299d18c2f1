"""`pixelrt bench`: how long a bundle takes here, with its accuracy and the state of the machine beside."""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelrt.bundle import Bundle
from pixelrt.cli.bench_generator import (
    GPU_STAGES,
    GeneratorMeasurement,
    gpu_times,
    measure_generator,
    say_check,
)
from pixelrt.cli.options import add_machine_options, count, machine_options, size
from pixelrt.cli.wording import say_times, verdict
from pixelrt.encoding import temporary_for, write_whole
from pixelrt.errors import InputError
from pixelrt.generation import Generator
from pixelrt.loading import load as load_segmenter
from pixelrt.machine import Load, describe, load, peak_memory_bytes
from pixelrt.manifest import Check, GenerationCheck, SegmentationCheck
from pixelrt.segmentation import Segmenter
from pixelrt.terminal import complain, heading, say, say_pairs, size_text, styled
from pixelrt.video.statistics import StageStatistics, StageTimes

_EPILOG = """\
examples:
  pixelrt bench engines/road-unet/bundle
  pixelrt bench engines/road-unet/bundle --size 1080x1920 --frames 500
  pixelrt bench engines/road-unet/bundle --backend openvino --precision float32 --threads 2
  pixelrt bench engines/road-unet/bundle --json bench.json
  pixelrt bench engines/street-painter/bundle --batch 16

The time is that of segmenter(frame): resizing, the network, mask, confidence and grid. The frames are noise,
made with a seed before the clock starts. Reading, drawing and encoding video are measured by `pixelrt run`.
Of a generator it is that of generator(...); latents, labels, masks and images are made before it likewise.
"""

_FRAME_SIZE = 720, 1280
_DISTINCT_FRAMES = 8
_SEED = 7


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
    stages: dict[str, StageStatistics]
    """`prepare`, `network`, and `end_to_end` as seen by the caller; on a GPU also `gpu_...`."""
    peak_memory_bytes: int | None
    """Of the whole process."""


def add_parser(subparsers: Any) -> None:
    """Add the command to the parser of `pixelrt`."""
    parser = subparsers.add_parser(
        "bench",
        help="measure how long a bundle takes on this machine",
        description="Measure how long a bundle takes per frame, or per image that it makes, on this machine.",
        epilog=_EPILOG,
    )
    parser.add_argument("bundle", metavar="BUNDLE", help="folder of a bundle")
    parser.add_argument("--frames", type=count, default=200, metavar="N", help="calls to measure (200)")
    parser.add_argument(
        "--warmup", type=count, default=20, metavar="N", help="calls before them that do not count (20)"
    )
    parser.add_argument(
        "--size",
        type=size,
        metavar="HxW",
        help="size of the frames (720x1280); of a generator's masks or images (the network's)",
    )
    parser.add_argument(
        "--batch", type=count, default=1, metavar="N", help="images per call of a generator (1)"
    )
    parser.add_argument("--json", metavar="FILE", help="write everything to FILE; - for standard output")
    add_machine_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Measure, print, and write the JSON if asked for."""
    bundle, options = Bundle.open(arguments.bundle), machine_options(arguments)
    file = None if arguments.json in (None, "-") else Path(arguments.json)
    if file is not None:
        temporary_for(file)  # found out before the measurement, not after it
    before = load()
    if before.busy:
        complain(f"warning: {_busy_text(before)}")
    opened, measured, checks = _measured(bundle, arguments, options)
    with opened:
        report = {
            "command": ["pixelrt", *sys.argv[1:]],
            "measured_at": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "bundle": {"path": str(bundle.path), "name": bundle.manifest.name, "sha256": bundle.model.sha256},
            "session": {**dataclasses.asdict(opened.session.info), "graphs": opened.session.graphs},
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
    _show(opened, measured, checks, before)
    if file is not None:
        write_whole(file, (json.dumps(report, indent=2) + "\n").encode())
    return 0


def _measured(
    bundle: Bundle, arguments: argparse.Namespace, options: dict[str, Any]
) -> tuple[Segmenter | Generator, Measurement | GeneratorMeasurement, Sequence[Check]]:
    """What was opened, what was measured, and what the gate says of the backend that runs here."""
    if bundle.manifest.task == "generation":
        generator, made = measure_generator(bundle, arguments, options)
        return generator, made, _checks(generator)
    if arguments.batch != 1:
        raise InputError(
            f"--batch is for bundles that write images, and {bundle.path} reads them; leave it out"
        )
    segmenter, measured = _measure(bundle, arguments, options)
    return segmenter, measured, _checks(segmenter)


def _checks(opened: Segmenter | Generator) -> list[Check]:
    info = opened.session.info
    return [
        check
        for check in opened.bundle.manifest.gate.checks
        if (check.backend, check.precision) == (info.backend, info.precision)
        and info.device.startswith(check.device)
    ]


def _measure(
    bundle: Bundle, arguments: argparse.Namespace, options: dict[str, Any]
) -> tuple[Segmenter, Measurement]:
    frame_size = arguments.size or _FRAME_SIZE
    frames = _frames(frame_size, bundle.segmentation.preprocess.channels)
    began = time.perf_counter()
    segmenter = load_segmenter(bundle, **options)
    loaded = time.perf_counter()
    segmenter(frames[0])
    first = time.perf_counter()
    for index in range(arguments.warmup):
        segmenter(frames[index % len(frames)])
    times = StageTimes(("prepare", "network", *GPU_STAGES, "end_to_end"))
    started = time.perf_counter()
    for index in range(arguments.frames):
        called = time.perf_counter()
        latency = segmenter(frames[index % len(frames)]).latency
        whole_ms = (time.perf_counter() - called) * 1e3
        times.add(prepare=latency.prepare_ms, network=latency.network_ms, end_to_end=whole_ms)
        if latency.gpu is not None:
            times.add(**gpu_times(latency.gpu))
    ended = time.perf_counter()
    return segmenter, Measurement(
        frames=arguments.frames,
        warmup_frames=arguments.warmup + 1,
        frame_size=frame_size,
        load_s=round(loaded - began, 3),
        first_mask_s=round(first - began, 3),
        frames_per_s=round(arguments.frames / (ended - started), 2),
        stages=times.statistics(),
        peak_memory_bytes=peak_memory_bytes(),
    )


def _frames(size: tuple[int, int], channels: int) -> list[NDArray[np.uint8]]:
    """Several different ones, so that no cache holds the only frame."""
    random = np.random.default_rng(_SEED)
    return [random.integers(0, 256, (*size, channels), np.uint8) for _ in range(_DISTINCT_FRAMES)]


def _show(
    opened: Segmenter | Generator,
    measured: Measurement | GeneratorMeasurement,
    checks: Sequence[Check],
    before: Load,
) -> None:
    info = opened.session.info
    peak = measured.peak_memory_bytes
    what, first, throughput, unit, warm_up = _words(measured)
    say(styled(f"{opened.bundle.manifest.name}, {what}", "bold"))
    say_pairs(
        [
            ("runs on", f"{info.backend} {info.version}, {info.device}, {info.precision}"),
            ("because", info.why),
            *_gpu_pairs(opened),
            ("load", f"{measured.load_s:.2f} s; {first}"),
            ("throughput", throughput),
            ("peak memory", size_text(peak) if peak is not None else "unknown"),
            ("machine", _busy_text(before) if before.busy else "quiet before the measurement"),
        ]
    )
    heading(f"Milliseconds per {unit}, after {warm_up} of warm-up")
    say_times(measured.stages)
    heading("Accuracy, as the gate measured it at the export")
    for check in checks:
        _say_check(check)
    if not checks:
        say(f"  not measured for {info.backend} in {info.precision}")


def _words(measured: Measurement | GeneratorMeasurement) -> tuple[str, str, str, str, str]:
    """What was measured, when the first result came, throughput, and what the times are of."""
    if isinstance(measured, GeneratorMeasurement):
        rows, cols = measured.image_size
        given = "" if measured.input_size is None else " from {}x{}".format(*measured.input_size)
        return (
            f"{measured.calls} calls of {measured.batch} x {rows}x{cols}{given}",
            f"first image after {measured.first_image_s:.2f} s",
            f"{measured.images_per_s:.1f} images/s",
            "image" if measured.batch == 1 else f"call of {measured.batch} images",
            f"{measured.warmup_calls} calls",
        )
    rows, cols = measured.frame_size
    return (
        f"{measured.frames} frames of {rows}x{cols}",
        f"first mask after {measured.first_mask_s:.2f} s",
        f"{measured.frames_per_s:.1f} frames/s",
        "frame",
        f"{measured.warmup_frames} frames",
    )


def _say_check(check: Check) -> None:
    if isinstance(check, GenerationCheck):
        say_check(check)
    elif isinstance(check, SegmentationCheck):
        miou = "" if check.miou is None else f", mIoU {check.miou:.4f}"
        agreement = f"{check.agreement:.5f} of the pixels as PyTorch in float32"
        say(f"  {check.head}: {agreement}{miou} ({verdict(check)})")


def _gpu_pairs(opened: Segmenter | Generator) -> list[tuple[str, str]]:
    info = opened.session.info
    if not info.gpu:
        return []
    return [
        ("GPU", f"{info.gpu}, through {info.driver}"),
        ("engine", info.engine or "none: the portable ONNX"),
        ("CUDA graphs", opened.session.graphs),
    ]


def _busy_text(now: Load) -> str:
    return (
        f"busy: {now.busy_share or 0:.0%} of all cores were in use before the measurement "
        f"(load average {now.average_1min}); the figures come out slower than they are"
    )
