"""How long a generator takes: the part of `pixelrt bench` for bundles that write images."""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from typing import Any

from pixelrt.bundle import Bundle
from pixelrt.cli.generators import psnr_text
from pixelrt.cli.wording import verdict
from pixelrt.errors import InputError
from pixelrt.generation import Generator
from pixelrt.generation.inventing import invented_inputs
from pixelrt.loading import load
from pixelrt.machine import peak_memory_bytes
from pixelrt.manifest import GenerationCheck, GenerationManifest
from pixelrt.session import GpuTimes
from pixelrt.terminal import say
from pixelrt.video.statistics import StageStatistics, StageTimes

GPU_STAGES = ("gpu_enqueue", "gpu_upload", "gpu_compute", "gpu_download")
_DISTINCT_CALLS = 8
_SEED = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratorMeasurement:
    """What was measured of a generator."""

    calls: int
    warmup_calls: int
    batch: int
    """Images per call."""
    image_size: tuple[int, int]
    """Height and width of what comes out."""
    input_size: tuple[int, int] | None
    """Height and width of the masks or images that go in; None where there are none."""
    load_s: float
    """From the call of `load` to the generator, with the import of the backend's library."""
    first_image_s: float
    """From the call of `load` to the first result."""
    images_per_s: float
    stages: dict[str, StageStatistics]
    """Per call: `prepare`, `network`, and `end_to_end` as seen by the caller; on a GPU also `gpu_...`."""
    peak_memory_bytes: int | None
    """Of the whole process."""


def gpu_times(times: GpuTimes) -> dict[str, float]:
    """Of a call, by stage."""
    values = (times.enqueue_ms, times.upload_ms, times.compute_ms, times.download_ms)
    return dict(zip(GPU_STAGES, values, strict=True))


def measure_generator(
    bundle: Bundle, arguments: argparse.Namespace, options: dict[str, Any]
) -> tuple[Generator, GeneratorMeasurement]:
    """Open a bundle and measure it; what it is given is drawn with a seed before the clock starts.

    Raises:
        InputError: If the batch or the size does not fit the bundle.
        DeviceError: If nothing here may run it.
    """
    manifest = bundle.generation
    size = _input_size(manifest, arguments.size)
    given = [
        invented_inputs(manifest, arguments.batch, _SEED + call, size) for call in range(_DISTINCT_CALLS)
    ]
    began = time.perf_counter()
    generator = load(bundle, task="generation", **options)
    loaded = time.perf_counter()
    generator(**given[0])
    first = time.perf_counter()
    for call in range(arguments.warmup):
        generator(**given[call % len(given)])
    times = StageTimes(("prepare", "network", *GPU_STAGES, "end_to_end"))
    started = time.perf_counter()
    for call in range(arguments.frames):
        called = time.perf_counter()
        latency = generator(**given[call % len(given)]).latency
        whole_ms = (time.perf_counter() - called) * 1e3
        shares = {"prepare": latency.prepare_ms, "network": latency.network_ms}
        times.add(**{name: share * arguments.batch for name, share in shares.items()}, end_to_end=whole_ms)
        if latency.gpu is not None:
            times.add(**gpu_times(latency.gpu))
    ended = time.perf_counter()
    return generator, GeneratorMeasurement(
        calls=arguments.frames,
        warmup_calls=arguments.warmup + 1,
        batch=arguments.batch,
        image_size=manifest.output.size,
        input_size=size,
        load_s=round(loaded - began, 3),
        first_image_s=round(first - began, 3),
        images_per_s=round(arguments.frames * arguments.batch / (ended - started), 2),
        stages=times.statistics(),
        peak_memory_bytes=peak_memory_bytes(),
    )


def _input_size(manifest: GenerationManifest, asked: tuple[int, int] | None) -> tuple[int, int] | None:
    own = manifest.mask.size if manifest.mask else manifest.image.size if manifest.image else None
    if own is None and asked is not None:
        raise InputError(f"--size is for masks and images, and {manifest.name} takes none; leave it out")
    return own if asked is None else asked


def say_check(check: GenerationCheck) -> None:
    """Write the figures of the gate."""
    say(
        f"  PSNR {psnr_text(check.psnr)} of the worst image, {psnr_text(check.mean_psnr)} of all, SSIM "
        f"{check.ssim:.5f}, largest difference {check.max_difference} of 255, against PyTorch in float32 "
        f"({verdict(check)})"
    )
