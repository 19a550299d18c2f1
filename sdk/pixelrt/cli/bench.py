"""`pixelrt bench`: how long a bundle takes here, with its accuracy and the state of the machine beside."""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelrt.bundle import Bundle
from pixelrt.cli.options import add_machine_options, count, machine_options, size
from pixelrt.cli.wording import say_times, verdict
from pixelrt.encoding import temporary_for, write_whole
from pixelrt.loading import load as load_segmenter
from pixelrt.machine import Load, describe, load, peak_memory_bytes
from pixelrt.manifest import SegmentationCheck
from pixelrt.segmentation import Segmenter
from pixelrt.session import GpuTimes
from pixelrt.terminal import complain, heading, say, say_pairs, size_text, styled
from pixelrt.video.statistics import StageStatistics, StageTimes

_EPILOG = """\
examples:
  pixelrt bench engines/road-unet/bundle
  pixelrt bench engines/road-unet/bundle --size 1080x1920 --frames 500
  pixelrt bench engines/road-unet/bundle --backend openvino --precision float32 --threads 2
  pixelrt bench engines/road-unet/bundle --json bench.json

The time is that of segmenter(frame): resizing, the network, mask, confidence and grid. The frames are noise,
made with a seed before the clock starts. Reading, drawing and encoding video are measured by `pixelrt run`.
"""

_GPU_STAGES = ("gpu_enqueue", "gpu_upload", "gpu_compute", "gpu_download")
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
        description="Measure how long a bundle takes per frame on this machine.",
        epilog=_EPILOG,
    )
    parser.add_argument("bundle", metavar="BUNDLE", help="folder of a bundle")
    parser.add_argument("--frames", type=count, default=200, metavar="N", help="frames to measure (200)")
    parser.add_argument(
        "--warmup", type=count, default=20, metavar="N", help="frames before them that do not count (20)"
    )
    parser.add_argument(
        "--size", type=size, default=(720, 1280), metavar="HxW", help="size of the frames (720x1280)"
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
    segmenter, measured = _measure(bundle, arguments, options)
    with segmenter:
        info = segmenter.session.info
        checks = [
            check
            for check in bundle.segmentation.gate.checks
            if (check.backend, check.precision) == (info.backend, info.precision)
            and info.device.startswith(check.device)
        ]
        report = {
            "command": ["pixelrt", *sys.argv[1:]],
            "measured_at": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "bundle": {"path": str(bundle.path), "name": bundle.manifest.name, "sha256": bundle.model.sha256},
            "session": {**dataclasses.asdict(info), "graphs": segmenter.session.graphs},
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
    if file is not None:
        write_whole(file, (json.dumps(report, indent=2) + "\n").encode())
    return 0


def _measure(
    bundle: Bundle, arguments: argparse.Namespace, options: dict[str, Any]
) -> tuple[Segmenter, Measurement]:
    frames = _frames(arguments.size, bundle.segmentation.preprocess.channels)
    began = time.perf_counter()
    segmenter = load_segmenter(bundle, **options)
    loaded = time.perf_counter()
    segmenter(frames[0])
    first = time.perf_counter()
    for index in range(arguments.warmup):
        segmenter(frames[index % len(frames)])
    times = StageTimes(("prepare", "network", *_GPU_STAGES, "end_to_end"))
    started = time.perf_counter()
    for index in range(arguments.frames):
        called = time.perf_counter()
        latency = segmenter(frames[index % len(frames)]).latency
        whole_ms = (time.perf_counter() - called) * 1e3
        times.add(prepare=latency.prepare_ms, network=latency.network_ms, end_to_end=whole_ms)
        if latency.gpu is not None:
            times.add(**_gpu_times(latency.gpu))
    ended = time.perf_counter()
    return segmenter, Measurement(
        frames=arguments.frames,
        warmup_frames=arguments.warmup + 1,
        frame_size=arguments.size,
        load_s=round(loaded - began, 3),
        first_mask_s=round(first - began, 3),
        frames_per_s=round(arguments.frames / (ended - started), 2),
        stages=times.statistics(),
        peak_memory_bytes=peak_memory_bytes(),
    )


def _gpu_times(times: GpuTimes) -> dict[str, float]:
    values = (times.enqueue_ms, times.upload_ms, times.compute_ms, times.download_ms)
    return dict(zip(_GPU_STAGES, values, strict=True))


def _frames(size: tuple[int, int], channels: int) -> list[NDArray[np.uint8]]:
    """Several different ones, so that no cache holds the only frame."""
    random = np.random.default_rng(_SEED)
    return [random.integers(0, 256, (*size, channels), np.uint8) for _ in range(_DISTINCT_FRAMES)]


def _show(segmenter: Segmenter, measured: Measurement, checks: list[SegmentationCheck], before: Load) -> None:
    info = segmenter.session.info
    height, width = measured.frame_size
    peak = measured.peak_memory_bytes
    say(styled(f"{segmenter.bundle.manifest.name}, {measured.frames} frames of {height}x{width}", "bold"))
    say_pairs(
        [
            ("runs on", f"{info.backend} {info.version}, {info.device}, {info.precision}"),
            ("because", info.why),
            *_gpu_pairs(segmenter),
            ("load", f"{measured.load_s:.2f} s; first mask after {measured.first_mask_s:.2f} s"),
            ("throughput", f"{measured.frames_per_s:.1f} frames/s"),
            ("peak memory", size_text(peak) if peak is not None else "unknown"),
            ("machine", _busy_text(before) if before.busy else "quiet before the measurement"),
        ]
    )
    heading(f"Milliseconds per frame, after {measured.warmup_frames} frames of warm-up")
    say_times(measured.stages)
    heading("Accuracy, as the gate measured it at the export")
    for check in checks:
        miou = "" if check.miou is None else f", mIoU {check.miou:.4f}"
        agreement = f"{check.agreement:.5f} of the pixels as PyTorch in float32"
        say(f"  {check.head}: {agreement}{miou} ({verdict(check)})")
    if not checks:
        say(f"  not measured for {info.backend} in {info.precision}")


def _gpu_pairs(segmenter: Segmenter) -> list[tuple[str, str]]:
    info = segmenter.session.info
    if not info.gpu:
        return []
    return [
        ("GPU", f"{info.gpu}, through {info.driver}"),
        ("engine", info.engine or "none: the portable ONNX"),
        ("CUDA graphs", segmenter.session.graphs),
    ]


def _busy_text(now: Load) -> str:
    return (
        f"busy: {now.busy_share or 0:.0%} of all cores were in use before the measurement "
        f"(load average {now.average_1min}); the figures come out slower than they are"
    )
