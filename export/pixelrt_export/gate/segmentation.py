"""The gate of networks that read images into masks.

Original and contenders get the same bytes at the network's size, so that the conversion is measured and
nothing else.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from onnx import ModelProto

from pixelrt.errors import ExportError
from pixelrt.manifest import Emit, Head, SegmentationCheck, SegmentationGate, SegmentationManifest
from pixelrt.metrics import ConfusionMatrix
from pixelrt_export.diagnose import explain
from pixelrt_export.fuse import FRAME, IMAGE, fuse
from pixelrt_export.gate.contenders import Contender, Track, each_measured, failure, opened
from pixelrt_export.gate.images import Bytes, Floats
from pixelrt_export.gate.segmentation_original import (
    Conversion,
    Reference,
    Sample,
    class_counts,
    class_ids,
    count_labels,
    normalised,
    original,
)

__all__ = ["Conversion", "Figures", "Reference", "Sample", "Verification", "normalised", "verify"]

NUM_PICTURES = 3
"""Images per head that are kept for the report, besides the worst one."""


@dataclass(slots=True)
class Figures:
    """What was measured of one contender at one head."""

    contender: Contender
    head: str
    equal: list[float]
    """Share of pixels of equal class, image by image."""
    agreement: ConfusionMatrix
    """Row = class of the original, column = class of the contender."""
    truth: ConfusionMatrix | None
    """The contender against the labels, where there are labels."""
    masks: dict[int, Bytes]
    """By index of the image: the images for the report."""
    max_logit_difference: float | None = None
    num_logit_images: int = 0
    check: SegmentationCheck | None = None

    @property
    def share_equal(self) -> float:
        """Share of pixels of equal class over all images."""
        return self.agreement.accuracy()

    @property
    def worst(self) -> int:
        """Index of the image with the fewest equal pixels."""
        return int(np.argmin(self.equal))


@dataclass(frozen=True, slots=True)
class Verification:
    """The verdict and what it rests on."""

    gate: SegmentationGate
    reference: Reference
    figures: tuple[Figures, ...]
    notes: tuple[str, ...]
    """What could not be measured, and why; what failed without failing the export."""


def verify(
    conversion: Conversion, samples: Sequence[Sample], gate: SegmentationGate, track: Track
) -> Verification:
    """Measure every contender against the original.

    Args:
        conversion: What to judge.
        samples: The images, at least one.
        gate: The limits; its `checks` are filled in.
        track: Shows progress.

    Raises:
        GateFailed: If a contender that must pass does not; the message says which number missed which limit
            and where the networks begin to differ.
        ExportError: If there are no images, the labels do not fit the classes, the original gives NaN, or its
            values show that the activation of a head is another one than the recipe says.
        DeviceError: If a contender that must pass cannot run here.
    """
    if not samples:
        raise ExportError("the gate has no images, at least one was expected; give images, or skip the gate")
    reference = original(conversion, samples, track)
    notes: list[str] = []

    def measured(contender: Contender) -> list[Figures]:
        return _measure(conversion, contender, samples, reference, track)

    figures = each_measured(conversion.manifest, measured, notes)
    for one in figures:
        one.check = _judge(one, reference, gate)
    checks = tuple(one.check for one in figures if one.check is not None)
    _demand(conversion, samples, [one for one in figures if one.contender.required], gate)
    notes.extend(
        f"{one.contender} is not used: {'; '.join(_misses(one.check, gate))}"
        for one in figures
        if one.check is not None and not one.check.passed
    )
    judged = dataclasses.replace(gate, checks=checks, num_images=len(samples))
    return Verification(judged, reference, tuple(figures), tuple(notes))


# --- a contender ----------------------------------------------------------------------------------


def _measure(
    conversion: Conversion,
    contender: Contender,
    samples: Sequence[Sample],
    reference: Reference,
    track: Track,
) -> list[Figures]:
    figures = [_blank(conversion, contender, head.name, reference) for head in conversion.spec.heads]
    heads = {head.name: head for head in conversion.manifest.heads}
    with opened(conversion.fused, conversion.manifest, contender) as session:
        for index, sample in enumerate(track(samples, f"gate: {contender}")):
            outputs = session.run({FRAME: sample.pixels[None]})
            for one in figures:
                if mask := heads[one.head].outputs.get("mask"):
                    _add_mask(one, index, sample, reference, outputs[mask][0])
    _measure_logits(conversion, figures, samples, reference, track)
    return figures


def _measure_logits(
    conversion: Conversion,
    figures: Sequence[Figures],
    samples: Sequence[Sample],
    reference: Reference,
    track: Track,
) -> None:
    """Run the graph once more with logits as its outputs: on the first images, or on all without masks."""
    contender, specs = figures[0].contender, {head.name: head for head in conversion.spec.heads}
    fused, manifest = with_logits(conversion)
    names = {head.name: head.outputs["logits"] for head in manifest.heads}
    count = max(len(logits) for logits in reference.logits.values())
    if any(not one.equal for one in figures):
        count = len(samples)
    with opened(fused, manifest, contender) as session:
        for index, sample in enumerate(track(samples[:count], f"gate: {contender}, logits")):
            outputs = session.run({FRAME: sample.pixels[None]})
            for one in figures:
                found = outputs[names[one.head]][0]
                if len(one.equal) <= index:
                    _add_mask(one, index, sample, reference, class_ids(found, specs[one.head]))
                if index < len(reference.logits[one.head]):
                    _add_logits(one, reference.logits[one.head][index], found)


def with_logits(conversion: Conversion) -> tuple[ModelProto, SegmentationManifest]:
    """The deployed graph with the logits of every head as its outputs, and a manifest that describes it."""
    emit: tuple[Emit, ...] = ("logits",)
    heads = tuple(dataclasses.replace(head, emit=emit) for head in conversion.spec.heads)
    fused, inputs, outputs, axes = fuse(conversion.typed, dataclasses.replace(conversion.spec, heads=heads))
    described: tuple[Head, ...] = tuple(
        dataclasses.replace(head, outputs={"logits": output.name})
        for head, output in zip(conversion.manifest.heads, outputs, strict=True)
    )
    manifest = dataclasses.replace(
        conversion.manifest, inputs=inputs, outputs=outputs, axes=axes, heads=described
    )
    return fused, manifest


def _blank(conversion: Conversion, contender: Contender, head: str, reference: Reference) -> Figures:
    num_classes = class_counts(conversion.manifest)[head]
    truth = ConfusionMatrix(num_classes) if head in reference.truth else None
    return Figures(contender, head, [], ConfusionMatrix(num_classes), truth, {})


def _add_mask(one: Figures, index: int, sample: Sample, reference: Reference, mask: Bytes) -> None:
    expected = reference.masks[one.head]
    one.agreement.add(expected[index], mask)
    one.equal.append(float(np.mean(expected[index] == mask)))
    count_labels(one.truth, sample.labels.get(one.head), mask)
    one.masks[index] = mask
    kept = {one.worst, *np.linspace(0, len(expected) - 1, NUM_PICTURES, dtype=int).tolist()}
    for other in set(one.masks) - kept:
        del one.masks[other]


def _add_logits(one: Figures, expected: Floats, found: Floats) -> None:
    difference = float(np.abs(found - expected).max()) if np.isfinite(found).all() else math.inf
    one.max_logit_difference = max(one.max_logit_difference or 0.0, difference)
    one.num_logit_images += 1


# --- the verdict ----------------------------------------------------------------------------------


def _judge(one: Figures, reference: Reference, gate: SegmentationGate) -> SegmentationCheck:
    truth = reference.truth.get(one.head)
    miou = one.truth.miou() if one.truth is not None else None
    drop = truth.miou() - miou if truth is not None and miou is not None else None
    difference = one.max_logit_difference
    finite = difference is None or math.isfinite(difference)
    check = SegmentationCheck(
        backend=one.contender.backend,
        device=one.contender.device,
        precision=one.contender.precision,
        passed=False,
        head=one.head,
        agreement=one.share_equal,
        miou_drop=drop,
        miou=miou,
        max_logit_difference=difference if finite else None,
    )
    return dataclasses.replace(check, passed=finite and not _misses(check, gate))


def _misses(check: SegmentationCheck, gate: SegmentationGate) -> list[str]:
    """The limits that were missed, in words."""
    misses = []
    if check.agreement < gate.agreement:
        misses.append(
            f"head {check.head!r} has {_percent(check.agreement, gate.agreement)} of its pixels in the class "
            f"of the original, the gate demands agreement = {_percent(gate.agreement)}"
        )
    if check.miou_drop is not None and check.miou_drop > gate.miou_drop:
        misses.append(
            f"head {check.head!r} loses {check.miou_drop:.4f} of mIoU, the gate allows "
            f"miou_drop = {gate.miou_drop:g}"
        )
    if check.max_logit_difference is None:
        misses.append(f"head {check.head!r} gives logits that are not finite")
    return misses


def _percent(share: float, limit: float | None = None) -> str:
    """A share with as many digits as it takes to tell it from the limit."""
    for digits in (2, 3, 4, 6):
        text = f"{100 * share:.{digits}f} %"
        if limit is None or text != f"{100 * limit:.{digits}f} %":
            break
    return text


def _demand(
    conversion: Conversion, samples: Sequence[Sample], required: Sequence[Figures], gate: SegmentationGate
) -> None:
    failed = [(one, one.check) for one in required if one.check is not None and not one.check.passed]
    if not failed:
        return
    lines = [
        f"{one.contender}: {miss} (worst image: {samples[one.worst].name})"
        for one, check in failed
        for miss in _misses(check, gate)
    ]
    image = normalised(samples[failed[0][0].worst].pixels, conversion.spec)
    cause = explain(
        conversion.network.reference({IMAGE: image}),
        conversion.plain,
        conversion.typed,
        {IMAGE: image},
        conversion.manifest.precision.requested,
    )
    raise failure(conversion.manifest, f"{len(samples)} images", lines, cause)
