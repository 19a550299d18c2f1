"""What the original network makes of images: masks and logits, and whether they can be what they should be.

What the deployed graph does around the network is done here a second time, by other means (NumPy, PyTorch).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import ModelProto

from pixelrt.errors import ExportError
from pixelrt.manifest import SegmentationManifest
from pixelrt.metrics import UNLABELLED, ConfusionMatrix, foreign_ids
from pixelrt.segmentation import nearest
from pixelrt_export.fuse import IMAGE, MAX_CLASSES, FuseSpec, HeadSpec
from pixelrt_export.gate.contenders import Track
from pixelrt_export.gate.images import Bytes, Floats, normalised_frames, resized_bilinear
from pixelrt_export.network import Network

LOGIT_BYTES = 64 * 2**20
"""Logits are compared on the first images, as many as fit into this; masks are compared on all of them."""

_TOLERANCE = 1e-3
"""By which probabilities may leave 0..1, and their sum over the classes miss 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One image of the gate."""

    name: str
    pixels: Bytes
    """uint8[h, w, C] at the network's size, in the order of the frames."""
    labels: Mapping[str, Bytes] = field(default_factory=dict)
    """Head name to class ids, uint8[H, W] at the label's own size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversion:
    """What is judged, at every stage that may have gone wrong."""

    network: Network
    plain: ModelProto
    """FP32 ONNX of the bare network."""
    typed: ModelProto
    """The same in its precision."""
    fused: ModelProto
    """The deployed graph."""
    spec: FuseSpec
    manifest: SegmentationManifest
    """As it will be written, but for gate and artifacts."""


@dataclass(slots=True)
class Reference:
    """What the original makes of the images."""

    masks: dict[str, list[Bytes]] = field(default_factory=dict)
    logits: dict[str, list[Floats]] = field(default_factory=dict)
    """Of the first images, at the network's size."""
    truth: dict[str, ConfusionMatrix] = field(default_factory=dict)
    """Against the labels, for the heads that have labels."""


def normalised(pixels: Bytes, spec: FuseSpec) -> Floats:
    """The network's input float32[1, C, h, w] from uint8[h, w, C] at its size."""
    swap = spec.network_color != spec.frame_color
    return normalised_frames(pixels[None], mean=spec.mean, std=spec.std, swap=swap)


def upsampled(raw: Floats, size: tuple[int, int]) -> Floats:
    """Raw output [1, K, h', w'] at the network's size: [K, h, w], bilinear with half-pixel centres."""
    result: Floats = resized_bilinear(raw, size)[0]
    return result


def class_ids(values: Floats, head: HeadSpec) -> Bytes:
    """The mask [h, w] of logits or probabilities [K, h, w]."""
    if len(values) > 1:
        narrow: type[np.unsignedinteger[Any]] = np.uint8 if len(values) <= MAX_CLASSES else np.uint16
        return np.asarray(values.argmax(0), narrow)
    limit = head.threshold
    if head.activation == "sigmoid":
        limit = math.log(limit / (1 - limit))
    return np.asarray(values[0] >= np.float32(limit), np.uint8)


def at_size_of(mask: Bytes, labels: Bytes) -> Bytes:
    """A mask at the size of its labels, as the runtime does it, so that both mIoUs are one measure."""
    return nearest(mask, *labels.shape)


def original(conversion: Conversion, samples: Sequence[Sample], track: Track) -> Reference:
    """Run the original on all images.

    Raises:
        ExportError: If it gives NaN, its values show that the activation of a head is another one than the
            recipe says, or the labels do not fit the classes.
    """
    reference = Reference()
    spec, num_classes = conversion.spec, class_counts(conversion.manifest)
    for head in spec.heads:
        reference.masks[head.name], reference.logits[head.name] = [], []
        if any(head.name in sample.labels for sample in samples):
            reference.truth[head.name] = ConfusionMatrix(num_classes[head.name])
    room, ranges = LOGIT_BYTES, {head.name: _Range() for head in spec.heads}
    for sample in track(samples, "gate: the original in FP32"):
        raw = conversion.network.reference({IMAGE: normalised(sample.pixels, spec)})
        values = {head.name: upsampled(raw[head.name], sample.pixels.shape[:2]) for head in spec.heads}
        room -= sum(array.nbytes for array in values.values())
        for head in spec.heads:
            _finite(values[head.name], head.name, sample.name)
            ranges[head.name].add(raw[head.name])
            mask = class_ids(values[head.name], head)
            reference.masks[head.name].append(mask)
            if room >= 0 or not reference.logits[head.name]:
                reference.logits[head.name].append(values[head.name])
            _check_ids(sample, head.name, num_classes[head.name])
            count_labels(reference.truth.get(head.name), sample.labels.get(head.name), mask)
    for head in spec.heads:
        _check_activation(head, ranges[head.name])
    for name, truth in reference.truth.items():
        _check_labels(truth, name)
    return reference


@dataclass(slots=True)
class _Range:
    """What the raw values [N, K, h, w] of a head have in common over all images."""

    channels: int = 0
    least: float = math.inf
    most: float = -math.inf
    off_one: float = 0.0
    """Largest difference between 1 and the sum over the channels."""

    def add(self, raw: Floats) -> None:
        self.channels = raw.shape[1]
        self.least = min(self.least, float(raw.min()))
        self.most = max(self.most, float(raw.max()))
        self.off_one = max(self.off_one, float(np.abs(raw.sum(1) - 1).max()))

    @property
    def within(self) -> bool:
        """Whether every value could be a probability."""
        return self.least >= -_TOLERANCE and self.most <= 1 + _TOLERANCE

    @property
    def probabilities(self) -> bool:
        """Whether these are probabilities: of class 1, or of all classes together."""
        return self.within and (self.channels == 1 or self.off_one <= _TOLERANCE)


def _check_activation(head: HeadSpec, found: _Range) -> None:
    """Confidence and grid mean nothing, and a one-channel mask is wrong, under the wrong activation."""
    if (head.activation == "none") == found.probabilities:
        return
    start = f"the original gives values from {found.least:.4g} to {found.most:.4g} for head {head.name!r}"
    if found.probabilities:
        summing = "" if found.channels == 1 else ", and they sum to 1 over the classes"
        raise ExportError(
            f"{start}{summing}: these are probabilities already, and {head.activation} would be applied a "
            "second time; set activation = 'none'"
        )
    if found.within:
        raise ExportError(
            f"{start}, and their sum over the classes misses 1 by up to {found.off_one:.4g}: with activation "
            "= 'none', probabilities that sum to 1 were expected. For logits set activation = 'softmax'; "
            "independent classes (a sigmoid for each of several channels) are not supported"
        )
    right = "sigmoid" if found.channels == 1 else "softmax"
    raise ExportError(
        f"{start}: these are logits, and with activation = 'none' probabilities from 0 to 1 were expected; "
        f"set activation = '{right}'"
    )


def class_counts(manifest: SegmentationManifest) -> dict[str, int]:
    """Number of classes by the name of the head."""
    return {head.name: len(head.classes) for head in manifest.heads}


def _finite(values: Floats, head: str, sample: str) -> None:
    if not np.isfinite(values).all():
        raise ExportError(
            f"head {head!r} of the original network is not finite on image {sample} (FP32, before any "
            "conversion), numbers were expected; check its weights, and the mean and std of the input"
        )


def count_labels(matrix: ConfusionMatrix | None, labels: Bytes | None, mask: Bytes) -> None:
    """Count a mask against its labels, where there are any."""
    if matrix is not None and labels is not None:
        matrix.add(labels, at_size_of(mask, labels))


def _check_ids(sample: Sample, head: str, num_classes: int) -> None:
    """Labels in the classes of another data set would give a mIoU of whatever ids they share."""
    strangers = foreign_ids(sample.labels[head], num_classes) if head in sample.labels else []
    if strangers:
        raise ExportError(
            f"the label of {sample.name} holds the ids {', '.join(map(str, strangers))}, and head {head!r} "
            f"has {num_classes} classes: 0 to {num_classes - 1}, and {num_classes} or {UNLABELLED} for "
            "unlabelled pixels, were expected; give the labels of these classes, or images without labels"
        )


def _check_labels(truth: ConfusionMatrix, head: str) -> None:
    """Labels that say nothing would make a perfect mIoU."""
    found = [index for index, count in enumerate(truth.counts.sum(1)) if count]
    if len(found) < 2 <= len(truth.counts):
        what = f"class {found[0]} alone" if found else "no class at all"
        raise ExportError(
            f"the labels of head {head!r} hold {what}, ids from 0 to {len(truth.counts) - 1} were expected "
            "(other values count as unlabelled); write class ids into the PNGs, not colours or 255, or give "
            "no labels"
        )
