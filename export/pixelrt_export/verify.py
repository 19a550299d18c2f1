"""The gate: the original network in FP32 against the deployed graph, as the runtime itself runs it.

Original and contenders get the same bytes at the network's size, so that the conversion is measured and
nothing else. What the graph does around the network is done here a second time, by other means (NumPy and
PyTorch).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import ModelProto

from pixelrt.backends import BACKENDS, TYPED_AS, Device
from pixelrt.errors import BuildError, DeviceError, EngineMismatch, ExportError, GateFailed
from pixelrt.manifest import Emit, Head, SegmentationCheck, SegmentationGate, SegmentationManifest
from pixelrt.metrics import UNLABELLED, ConfusionMatrix, foreign_ids
from pixelrt.segmentation import nearest
from pixelrt.session import Precision, Session, open_model
from pixelrt_export.diagnose import explain
from pixelrt_export.fuse import FRAME, IMAGE, MAX_CLASSES, FuseSpec, HeadSpec, fuse
from pixelrt_export.network import Network
from pixelrt_export.rounding import round_explicitly

LOGIT_BYTES = 64 * 2**20
"""Logits are compared on the first images, as many as fit into this; masks are compared on all of them."""
NUM_PICTURES = 3
"""Images per head that are kept for the report, besides the worst one."""

_TOLERANCE = 1e-3
"""By which probabilities may leave 0..1, and their sum over the classes miss 1."""

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
T = TypeVar("T")


class Track(Protocol):
    """Goes through items and shows how many are done."""

    def __call__(self, items: Sequence[T], description: str) -> Iterable[T]:
        """The items, one by one."""
        ...


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


@dataclass(frozen=True, slots=True)
class Contender:
    """A backend and a precision that run the deployed graph."""

    backend: str
    precision: Precision
    required: bool
    """Whether its failure is the failure of the export; otherwise `load` does not use it, and that is all."""
    device: Device = "cpu"

    def __str__(self) -> str:
        return f"{self.backend} {self.precision}{' on the GPU' if self.device == 'cuda' else ''}"


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


@dataclass(slots=True)
class Reference:
    """What the original makes of the images."""

    masks: dict[str, list[Bytes]] = field(default_factory=dict)
    logits: dict[str, list[Floats]] = field(default_factory=dict)
    """Of the first images, at the network's size."""
    truth: dict[str, ConfusionMatrix] = field(default_factory=dict)
    """Against the labels, for the heads that have labels."""


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

    Contenders: OpenVINO in float32, which must pass; OpenVINO in bfloat16 where this CPU has it, which the
    runtime does not use if it fails; ONNX Runtime in the types of the ONNX, which must pass. For that, the
    roundings of an FP16 or BF16 graph are written out (see `rounding`), and it stands in for a GPU. Where
    there is one, TensorRT and ONNX Runtime run on it as they will, and are not used there if they fail.

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
    reference = _original(conversion, samples, track)
    notes: list[str] = []
    figures: list[Figures] = []
    for contender in contenders(conversion.manifest):
        try:
            measured = _measure(conversion, contender, samples, reference, track)
        except (DeviceError, BuildError, EngineMismatch) as problem:
            if contender.required:
                raise
            notes.append(f"{contender} was not measured: {problem}")
            continue
        for one in measured:
            one.check = _judge(one, reference, gate)
            figures.append(one)
    checks = tuple(one.check for one in figures if one.check is not None)
    _demand(conversion, samples, [one for one in figures if one.contender.required], gate)
    notes.extend(
        f"{one.contender} is not used: {'; '.join(_misses(one.check, gate))}"
        for one in figures
        if one.check is not None and not one.check.passed
    )
    judged = dataclasses.replace(gate, checks=checks, num_images=len(samples))
    return Verification(judged, reference, tuple(figures), tuple(notes))


def contenders(manifest: SegmentationManifest) -> tuple[Contender, ...]:
    """What the gate runs on this machine, for the precision of this bundle."""
    openvino = [
        Contender("openvino", precision, required=precision == "float32")
        for precision in BACKENDS["openvino"].precisions("cpu", manifest)
    ]
    typed = TYPED_AS[manifest.precision.requested]
    stand_in = Contender("onnxruntime", typed, required=True)
    on_gpu = [
        Contender(name, typed, required=False, device="cuda")
        for name in ("tensorrt", "onnxruntime")
        if not BACKENDS[name].unusable("cuda")
    ]
    return (*sorted(openvino, key=lambda one: not one.required), stand_in, *on_gpu)


# --- the original ---------------------------------------------------------------------------------


def normalised(pixels: Bytes, spec: FuseSpec) -> Floats:
    """The network's input float32[1, C, h, w] from uint8[h, w, C] at its size."""
    image = pixels.astype(np.float32)
    if spec.network_color != spec.frame_color:
        image = image[..., [2, 1, 0, *range(3, image.shape[-1])]]
    mean, std = np.array(spec.mean, np.float64), np.array(spec.std, np.float64)
    image = image * (1 / (255 * std)).astype(np.float32) + (-mean / std).astype(np.float32)
    return np.ascontiguousarray(image.transpose(2, 0, 1)[None])


def upsampled(raw: Floats, size: tuple[int, int]) -> Floats:
    """Raw output [1, K, h', w'] at the network's size: [K, h, w], bilinear with half-pixel centres."""
    tensor = torch.from_numpy(np.ascontiguousarray(raw))
    if tuple(raw.shape[2:]) != size:
        tensor = torch.nn.functional.interpolate(tensor, size, mode="bilinear", align_corners=False)
    result: Floats = tensor[0].numpy()
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


def _original(conversion: Conversion, samples: Sequence[Sample], track: Track) -> Reference:
    reference = Reference()
    spec, num_classes = conversion.spec, _num_classes(conversion.manifest)
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
            _count(reference.truth.get(head.name), sample.labels.get(head.name), mask)
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


def _num_classes(manifest: SegmentationManifest) -> dict[str, int]:
    return {head.name: len(head.classes) for head in manifest.heads}


def _finite(values: Floats, head: str, sample: str) -> None:
    if not np.isfinite(values).all():
        raise ExportError(
            f"head {head!r} of the original network is not finite on image {sample} (FP32, before any "
            "conversion), numbers were expected; check its weights, and the mean and std of the input"
        )


def _count(matrix: ConfusionMatrix | None, labels: Bytes | None, mask: Bytes) -> None:
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
    with _opened(conversion.fused, conversion.manifest, contender) as session:
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
    with _opened(fused, manifest, contender) as session:
        for index, sample in enumerate(track(samples[:count], f"gate: {contender}, logits")):
            outputs = session.run({FRAME: sample.pixels[None]})
            for one in figures:
                found = outputs[names[one.head]][0]
                if len(one.equal) <= index:
                    _add_mask(one, index, sample, reference, class_ids(found, specs[one.head]))
                if index < len(reference.logits[one.head]):
                    _add_logits(one, reference.logits[one.head][index], found)


def _opened(model: ModelProto, manifest: SegmentationManifest, contender: Contender) -> Session:
    precision = contender.precision
    if (contender.backend, contender.device) == ("onnxruntime", "cpu"):
        model, _ = round_explicitly(model)
        precision = "float32"  # in which it runs the roundings that are written out
    return open_model(
        model.SerializeToString(),
        manifest,
        backend=contender.backend,
        precision=precision,
        device=contender.device,
    )


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
    num_classes = _num_classes(conversion.manifest)[head]
    truth = ConfusionMatrix(num_classes) if head in reference.truth else None
    return Figures(contender, head, [], ConfusionMatrix(num_classes), truth, {})


def _add_mask(one: Figures, index: int, sample: Sample, reference: Reference, mask: Bytes) -> None:
    expected = reference.masks[one.head]
    one.agreement.add(expected[index], mask)
    one.equal.append(float(np.mean(expected[index] == mask)))
    _count(one.truth, sample.labels.get(one.head), mask)
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
        f"  {one.contender}: {miss} (worst image: {samples[one.worst].name})"
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
    raise GateFailed(
        f"{conversion.manifest.name} did not pass its gate on {len(samples)} images; "
        "no bundle was written\n" + "\n".join(lines) + f"\n  {cause}\n"
        "Try a more exact precision (fp32); lower the limit if this difference is acceptable for the task; "
        "or skip the gate, which the bundle will record (--no-gate, gate=False)"
    )


def as_record(figures: Figures) -> dict[str, Any]:
    """The figures of one contender at one head, for report.json."""
    return {
        "backend": figures.contender.backend,
        "device": figures.contender.device,
        "precision": figures.contender.precision,
        "required": figures.contender.required,
        "head": figures.head,
        "agreement": figures.share_equal,
        "agreement_per_image": figures.equal,
        "iou_against_original": _numbers(figures.agreement.iou()),
        "iou_against_labels": None if figures.truth is None else _numbers(figures.truth.iou()),
        "max_logit_difference": figures.check.max_logit_difference if figures.check else None,
        "logit_images": figures.num_logit_images,
    }


def _numbers(values: NDArray[np.float64]) -> list[float | None]:
    return [float(value) if np.isfinite(value) else None for value in values]
