"""The gate of generators: images of the original in FP32 against those of the deployed graph.

Original and contenders get the same latents, labels, masks, images and noise, sample by sample.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from skimage.metrics import structural_similarity

from pixelrt.errors import ExportError
from pixelrt.manifest import GenerationCheck, GenerationGate
from pixelrt.metrics import mean_square, psnr
from pixelrt_export.diagnose import explain
from pixelrt_export.gate.contenders import Contender, Track, each_measured, failure, opened
from pixelrt_export.gate.generation_original import (
    GeneratorConversion,
    GeneratorReference,
    GeneratorSample,
    network_feeds,
    original,
)
from pixelrt_export.gate.images import Bytes
from pixelrt_export.generator_spec import GENERATED, LABEL

__all__ = [
    "GeneratorConversion",
    "GeneratorFigures",
    "GeneratorReference",
    "GeneratorSample",
    "GeneratorVerification",
    "network_feeds",
    "verify_generator",
]

NUM_PICTURES = 3
"""Images that are kept for the report, besides the worst ones of each contender."""

_WINDOW = 7
"""Side in pixels of the window in which structural similarity is measured."""
_SMALLEST_WINDOW = 3
_FEW = 3
"""Names that a message lists."""


@dataclass(slots=True)
class GeneratorFigures:
    """What was measured of one contender, sample by sample."""

    contender: Contender
    squares: list[float] = field(default_factory=list)
    """Mean squared difference of the bytes."""
    ssim: list[float] = field(default_factory=list)
    """Structural similarity, at most 1."""
    largest: list[int] = field(default_factory=list)
    """Largest difference of a byte."""
    images: dict[int, Bytes] = field(default_factory=dict)
    """By index of the sample: the images for the report."""
    check: GenerationCheck | None = None

    @property
    def worst(self) -> int:
        """Index of the image with the least PSNR."""
        return int(np.argmax(self.squares))

    @property
    def worst_ones(self) -> tuple[int, int, int]:
        """Index of the worst image by PSNR, by SSIM, and by the largest difference."""
        return self.worst, int(np.argmin(self.ssim)), int(np.argmax(self.largest))


@dataclass(frozen=True, slots=True)
class GeneratorVerification:
    """The verdict and what it rests on."""

    gate: GenerationGate
    reference: GeneratorReference
    figures: tuple[GeneratorFigures, ...]
    notes: tuple[str, ...]
    """What is odd, what could not be measured, and what failed without failing the export."""


def verify_generator(
    conversion: GeneratorConversion,
    samples: Sequence[GeneratorSample],
    gate: GenerationGate,
    track: Track,
) -> GeneratorVerification:
    """Measure every contender against the original.

    Args:
        conversion: What to judge.
        samples: What the images are made from, at least one.
        gate: The limits, each for the worst image; its `checks` are filled in.
        track: Shows progress.

    Raises:
        GateFailed: If a contender that must pass does not; the message says which number missed which limit
            on which sample, and where the networks begin to differ.
        ExportError: If there are no samples, the images are smaller than 3 x 3, or the original gives NaN or
            values that are none of the declared range.
        DeviceError: If a contender that must pass cannot run here.
    """
    if not samples:
        raise ExportError("the gate has no samples, at least one was expected; give some, or skip the gate")
    _window(conversion.manifest.output.size)
    reference = original(conversion, samples, track)
    notes = [*reference.notes, *_untried_labels(conversion, samples)]

    def measured(contender: Contender) -> list[GeneratorFigures]:
        return [_measure(conversion, contender, samples, reference, track)]

    figures = each_measured(conversion.manifest, measured, notes)
    _drop_images(figures)
    for one in figures:
        one.check = _judge(one, gate)
    _demand(conversion, samples, [one for one in figures if one.contender.required], gate)
    notes.extend(
        f"{one.contender} is not used: {'; '.join(miss.text for miss in misses)}"
        for one in figures
        if (misses := _misses(one, gate, samples))
    )
    checks = tuple(one.check for one in figures if one.check is not None)
    judged = dataclasses.replace(gate, checks=checks, num_images=len(samples))
    return GeneratorVerification(judged, reference, tuple(figures), tuple(notes))


# --- a contender -------------------------------------------------------------------------------------


def _measure(
    conversion: GeneratorConversion,
    contender: Contender,
    samples: Sequence[GeneratorSample],
    reference: GeneratorReference,
    track: Track,
) -> GeneratorFigures:
    figures = GeneratorFigures(contender)
    with opened(conversion.fused, conversion.manifest, contender) as session:
        for index, sample in enumerate(track(samples, f"gate: {contender}")):
            image = session.run(dict(sample.feeds))[GENERATED][0]
            _add(figures, index, reference.images, image)
    return figures


def _add(figures: GeneratorFigures, index: int, expected: Sequence[Bytes], image: Bytes) -> None:
    figures.squares.append(mean_square(expected[index], image))
    figures.ssim.append(ssim(expected[index], image))
    figures.largest.append(int(byte_difference(expected[index], image).max()))
    figures.images[index] = image


def _drop_images(figures: Sequence[GeneratorFigures]) -> None:
    """Keep the same few images of all contenders."""
    spread = np.linspace(0, len(figures[0].images) - 1, NUM_PICTURES, dtype=int).tolist()
    kept = {*spread, *(index for one in figures for index in one.worst_ones)}
    for one in figures:
        one.images = {index: one.images[index] for index in sorted(kept)}


def byte_difference(first: Bytes, second: Bytes) -> Bytes:
    """Differences of bytes without their sign, uint8 of the same shape."""
    return np.asarray(np.maximum(first, second) - np.minimum(first, second), np.uint8)


def ssim(first: Bytes, second: Bytes) -> float:
    """Structural similarity of two images uint8[H, W, C], mean over windows of 7 x 7 pixels and channels.

    Z. Wang, A. Bovik, H. Sheikh, E. Simoncelli: Image Quality Assessment: From Error Visibility to Structural
    Similarity, 2004; uniform windows, which are smaller in images that are smaller.
    """
    height, width = first.shape[:2]
    similarity = structural_similarity(  # type: ignore[no-untyped-call]
        first, second, win_size=_window((height, width)), channel_axis=2, data_range=255
    )
    return float(similarity)


def _window(size: tuple[int, int]) -> int:
    side = min(_WINDOW, *size)
    if side < _SMALLEST_WINDOW:
        raise ExportError(
            f"the images are {size[0]} x {size[1]} pixels, and structural similarity needs at least "
            f"{_SMALLEST_WINDOW} x {_SMALLEST_WINDOW}; skip the gate (--no-gate, gate=False)"
        )
    return side - 1 + side % 2


def _untried_labels(conversion: GeneratorConversion, samples: Sequence[GeneratorSample]) -> list[str]:
    label = conversion.manifest.label
    if label is None:
        return []
    tried = {int(number) for sample in samples for number in sample.feeds[LABEL]}
    missing = [name for number, name in enumerate(label.names) if number not in tried]
    if not missing:
        return []
    shown = ", ".join(map(repr, missing[:_FEW])) + (", ..." if len(missing) > _FEW else "")
    tried_text = f"{len(missing)} of {len(label.names)} labels were not tried ({shown})"
    return [f"{tried_text}: {len(samples)} samples take turns; gate.samples = {len(label.names)} tries all"]


# --- the verdict -------------------------------------------------------------------------------------


def _judge(one: GeneratorFigures, gate: GenerationGate) -> GenerationCheck:
    least, mean = psnr(max(one.squares)), psnr(float(np.mean(one.squares)))
    check = GenerationCheck(
        backend=one.contender.backend,
        device=one.contender.device,
        precision=one.contender.precision,
        passed=False,
        psnr=least if math.isfinite(least) else None,
        mean_psnr=mean if math.isfinite(mean) else None,
        ssim=min(one.ssim),
        max_difference=max(one.largest),
    )
    near = least >= gate.psnr and check.ssim >= gate.ssim and check.max_difference <= gate.max_difference
    return dataclasses.replace(check, passed=near)


class _Miss(NamedTuple):
    worst: int
    """Index of the worst sample."""
    text: str
    """Which number missed which limit, and on which sample."""


def _misses(one: GeneratorFigures, gate: GenerationGate, samples: Sequence[GeneratorSample]) -> list[_Miss]:
    """The limits that were missed."""
    by_psnr, by_ssim, by_difference = one.worst_ones
    least, similar, most = psnr(one.squares[by_psnr]), one.ssim[by_ssim], one.largest[by_difference]
    misses = []
    if least < gate.psnr:
        said = f"PSNR is {_apart(least, gate.psnr, 2)} dB on {samples[by_psnr].name}"
        misses.append(_Miss(by_psnr, f"{said}, the gate demands psnr = {gate.psnr:g}"))
    if similar < gate.ssim:
        said = f"SSIM is {_apart(similar, gate.ssim, 4)} on {samples[by_ssim].name}"
        misses.append(_Miss(by_ssim, f"{said}, the gate demands ssim = {gate.ssim:g}"))
    if most > gate.max_difference:
        said = f"a byte differs by {most} on {samples[by_difference].name}"
        allowed = f"the gate allows max_difference = {gate.max_difference}"
        misses.append(_Miss(by_difference, f"{said}, {allowed}"))
    return misses


def _apart(value: float, limit: float, digits: int) -> str:
    """A number with as many digits as it takes to tell it from the limit."""
    while digits < 9 and f"{value:.{digits}f}" == f"{limit:.{digits}f}":
        digits += 1
    return f"{value:.{digits}f}"


def _demand(
    conversion: GeneratorConversion,
    samples: Sequence[GeneratorSample],
    required: Sequence[GeneratorFigures],
    gate: GenerationGate,
) -> None:
    failed = [(one, misses) for one in required if (misses := _misses(one, gate, samples))]
    if not failed:
        return
    lines = [f"{one.contender}: {miss.text}" for one, misses in failed for miss in misses]
    (_, (first, *_)), *_ = failed
    feeds = network_feeds(samples[first.worst].feeds, conversion.spec)
    cause = explain(
        conversion.network.reference(feeds),
        conversion.plain,
        conversion.typed,
        feeds,
        conversion.manifest.precision.requested,
    )
    raise failure(conversion.manifest, f"{len(samples)} samples", lines, cause)
