"""What the original generator makes of its inputs, and whether that can be an image of the declared range.

What the deployed graph does around the network is done here a second time, by other means (NumPy).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from pixelrt.errors import ExportError
from pixelrt.manifest import Form, GenerationManifest, OutputActivation, Preprocess, ValueRange
from pixelrt_export.gate.contenders import Track
from pixelrt_export.gate.images import Bytes, Floats, normalised_frames, resized_bilinear
from pixelrt_export.generator_spec import IMAGE, LABEL, MASK, GeneratorSpec
from pixelrt_export.network import Network

_BOUNDS: dict[ValueRange, tuple[float, float]] = {
    "tanh": (-1.0, 1.0),
    "sigmoid": (0.0, 1.0),
    "none": (0.0, 255.0),
}
_OVERSHOOT = 0.05
"""By which share of a range values may leave it: networks without an activation overshoot a little."""
_LEAST_SPAN = 8.0
"""Between the darkest and the brightest value, where 255 is white: with less there is no picture."""
_ROUNDING = 1e-3
"""By which share of a range a value is still taken to be its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratorSample:
    """What one image of the gate is made from."""

    name: str
    feeds: Mapping[str, NDArray[Any]]
    """Of the deployed graph, by the name of the input, a batch of 1, noise included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratorConversion:
    """What is judged, at every stage that may have gone wrong."""

    network: Network
    plain: ModelProto
    """FP32 ONNX of the bare network."""
    typed: ModelProto
    """The same in its precision."""
    fused: ModelProto
    """The deployed graph."""
    spec: GeneratorSpec
    manifest: GenerationManifest
    """As it will be written, but for gate and artifacts."""


@dataclass(slots=True)
class GeneratorReference:
    """What the original makes of the samples."""

    images: list[Bytes] = field(default_factory=list)
    """uint8[H, W, C] per sample, in the order of the images that come out."""
    least: float = math.inf
    """Of the network's values on all samples, before the activation."""
    most: float = -math.inf
    notes: list[str] = field(default_factory=list)
    """What is odd about the images, and no error."""


# --- around the network ------------------------------------------------------------------------------


def network_feeds(feeds: Mapping[str, NDArray[Any]], spec: GeneratorSpec) -> dict[str, NDArray[Any]]:
    """What the bare network gets for what the deployed graph gets.

    Args:
        feeds: Of the deployed graph, by the name of the input: `latent` and noise float32[N, *size], `label`
            int32[N], `mask` uint8[N, h, w], `image` uint8[N, h, w, C].
        spec: How the network takes them.

    Returns:
        By the name of the input: latents and noise as they are, labels and masks as int64 ids or float32
        one-hot, masks by nearest neighbour at the network's size, images float32[N, C, H, W] normalised.
    """
    made = dict(feeds)
    if spec.label is not None:
        made[LABEL] = _of_classes(feeds[LABEL], len(spec.label.names), spec.label_form)
    if spec.mask is not None:
        mask = _nearest(feeds[MASK], spec.mask.size)
        made[MASK] = _of_classes(mask, len(spec.mask.classes), spec.mask.form)
    if spec.image is not None:
        made[IMAGE] = _normalised(feeds[IMAGE], spec.image, swap=spec.image_color != spec.image.color)
    return made


def _of_classes(ids: NDArray[Any], count: int, form: Form) -> NDArray[Any]:
    if form == "index":
        return ids.astype(np.int64).clip(max=count - 1)
    every = np.arange(count).reshape(1, count, *[1] * (ids.ndim - 1))
    one_hot: Floats = (ids[:, None] == every).astype(np.float32)
    return one_hot


def _nearest(mask: Bytes, size: tuple[int, int]) -> Bytes:
    """Masks [N, h, w] at another size: centres of pixels, in whole numbers."""
    rows, columns = (
        (2 * np.arange(new) + 1) * old // (2 * new) for new, old in zip(size, mask.shape[1:], strict=True)
    )
    taken: Bytes = mask[:, rows][:, :, columns]
    return taken


def _normalised(frames: Bytes, image: Preprocess, *, swap: bool) -> Floats:
    values = frames.astype(np.float32).transpose(0, 3, 1, 2)
    values = resized_bilinear(values, image.size).transpose(0, 2, 3, 1)
    return normalised_frames(values, mean=image.mean, std=image.std, swap=swap)


def activated(values: Floats, activation: OutputActivation) -> Floats:
    """A network's values after the activation that it leaves out, float32 as in the graph."""
    if activation == "tanh":
        return np.asarray(np.tanh(values), np.float32)
    if activation == "sigmoid":
        return np.asarray(0.5 + 0.5 * np.tanh(0.5 * values), np.float32)
    return values


def image_bytes(values: Floats, spec: GeneratorSpec) -> Bytes:
    """Images uint8[N, H, W, C] of a network's values float32[N, C, H, W]: rounded half to even."""
    least, most = _BOUNDS[spec.range]
    scaled = (activated(values, spec.activation) - np.float32(least)) * np.float32(255 / (most - least))
    images = np.rint(np.clip(scaled, 0, 255)).astype(np.uint8).transpose(0, 2, 3, 1)
    if spec.network_color != spec.frame_color:
        images = images[..., ::-1]
    return np.ascontiguousarray(images)


# --- the original ------------------------------------------------------------------------------------


def original(
    conversion: GeneratorConversion, samples: Sequence[GeneratorSample], track: Track
) -> GeneratorReference:
    """Run the original on all samples.

    Raises:
        ExportError: If it gives NaN or infinity, or its values are none of the declared range.
    """
    reference, spec = GeneratorReference(), conversion.spec
    for sample in track(samples, "gate: the original in FP32"):
        (values,) = conversion.network.reference(network_feeds(sample.feeds, spec)).values()
        _check_finite(values, sample.name)
        reference.least = min(reference.least, float(values.min()))
        reference.most = max(reference.most, float(values.max()))
        reference.images.append(image_bytes(values, spec)[0])
    _check_range(reference, spec)
    _note_equal_images(reference, spec)
    return reference


def _check_finite(values: Floats, sample: str) -> None:
    if not np.isfinite(values).all():
        raise ExportError(
            f"the original network gives NaN or infinity for {sample} (FP32, before any conversion), "
            "numbers were expected; check its weights and its inputs"
        )


def _note_equal_images(reference: GeneratorReference, spec: GeneratorSpec) -> None:
    first, *others = reference.images
    if others and all(np.array_equal(first, other) for other in others):
        inputs = ", ".join(tensor.name for tensor in spec.inputs())
        reference.notes.append(
            f"the original makes the same image of all {len(reference.images)} samples, as if it ignored "
            f"{inputs}: is it trained, and are its inputs bound to the right parameters of forward()?"
        )


# --- the range ---------------------------------------------------------------------------------------


def _check_range(found: GeneratorReference, spec: GeneratorSpec) -> None:
    """Values of another range than the declared one make images that are too dark, too bright or cut."""
    if spec.activation != "none":
        _note_activated_twice(found, spec.activation)
    elif spec.range == "none":
        _check_unscaled(found)
    else:
        _check_scaled(found, spec.range)


def _within(found: GeneratorReference, bounds: tuple[float, float], tolerance: float) -> bool:
    """Whether all values lie between these bounds; `tolerance` is a share of their distance."""
    least, most = bounds
    room = tolerance * (most - least)
    return found.least >= least - room and found.most <= most + room


def _span(found: GeneratorReference) -> str:
    return f"the original gives values from {found.least:.4g} to {found.most:.4g}"


def _check_unscaled(found: GeneratorReference) -> None:
    """With range = 'none', values are bytes already."""
    meant: tuple[ValueRange, ...] = ("sigmoid", "tanh")
    for name in meant:
        if _within(found, _BOUNDS[name], _OVERSHOOT):
            least, most = _BOUNDS[name]
            raise ExportError(
                f"{_span(found)} on all samples, and with range = 'none' values from 0 to 255 were "
                f"expected: the images would be black; set range = {name!r} for {least:g} to {most:g}"
            )
    if found.most - found.least < _LEAST_SPAN:
        raise ExportError(
            f"{_span(found)} on all samples, and with range = 'none' values from 0 to 255 were expected: the "
            "images would be of one colour; bring them to 0..255, 0..1 or -1..1 at the end of forward()"
        )
    if not _within(found, _BOUNDS["none"], _OVERSHOOT):
        raise ExportError(
            f"{_span(found)}, and with range = 'none' values from 0 to 255 were expected; scale them at the "
            "end of forward(), or end it in clamp(0, 255) if what lies beyond shall be cut"
        )
    _note_cut(found, "none")


def _check_scaled(found: GeneratorReference, declared: ValueRange) -> None:
    """Without an activation in the graph, the network itself must keep to the range."""
    least, most = _BOUNDS[declared]
    if not _within(found, _BOUNDS[declared], _OVERSHOOT):
        other: ValueRange = "none"
        if declared == "sigmoid" and _within(found, _BOUNDS["tanh"], _OVERSHOOT):
            other = "tanh"
        raise ExportError(
            f"{_span(found)}, and with range = {declared!r} values from {least:g} to {most:g} were expected; "
            f"set activation = {declared!r} if forward() leaves it out, range = {other!r} if the values are "
            f"{_BOUNDS[other][0]:g} to {_BOUNDS[other][1]:g}, or end forward() in clamp({least:g}, {most:g}) "
            "if what lies beyond shall be cut"
        )
    _note_cut(found, declared)
    if declared == "tanh" and len(found.images) > 1 and found.least >= 0:
        found.notes.append(
            f"{_span(found)}, none below 0, and range = 'tanh' stands for -1 to 1: no image is darker than "
            "grey; if the network gives 0 to 1, set range = 'sigmoid'"
        )


def _note_cut(found: GeneratorReference, declared: ValueRange) -> None:
    least, most = _BOUNDS[declared]
    if not _within(found, _BOUNDS[declared], _ROUNDING):
        found.notes.append(f"{_span(found)}: what lies beyond {least:g} to {most:g} is cut, in both networks")


def _note_activated_twice(found: GeneratorReference, activation: OutputActivation) -> None:
    if activation != "none" and len(found.images) > 1 and _within(found, _BOUNDS[activation], 0):
        found.notes.append(
            f"{_span(found)}, and activation = {activation!r} is applied to them: if forward() ends in one "
            "already, the images are pale; then leave activation out"
        )
