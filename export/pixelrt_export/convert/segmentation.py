"""From a segmentation network to the deployed graph: FP32 ONNX, precision, and what goes around it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from onnx import ModelProto

from pixelrt.errors import ExportError
from pixelrt.manifest import Axis, Head, SegmentationGate, SegmentationManifest
from pixelrt_export.convert.common import described, preprocess
from pixelrt_export.fuse import DEFAULT_AXES, IMAGE, FuseSpec, HeadSpec, fuse, output_name
from pixelrt_export.gate.segmentation import Conversion, Sample, normalised
from pixelrt_export.graph import checked, value_types
from pixelrt_export.network import HeadOutput, Network, NetworkSpec
from pixelrt_export.palettes import class_infos
from pixelrt_export.precision import PrecisionReport, to_precision
from pixelrt_export.progress import Steps
from pixelrt_export.recipe import HeadSection, SegmentationRecipe

GRID_CELL = 32
"""Height and width in pixels of a grid's cell, where the recipe does not say how many there are."""


def convert(
    recipe: SegmentationRecipe, network: Network, samples: Sequence[Sample], steps: Steps
) -> tuple[Conversion, PrecisionReport]:
    """From a network to the deployed graph: FP32 ONNX, precision, and what goes around it.

    Args:
        recipe: What to make.
        network: The original.
        samples: Images for the activation ranges. There may be none for fp32, which changes no type; ranges
            are not reported then.
        steps: Shows progress.

    Raises:
        ExportError: If the network cannot be converted, or the recipe does not fit it.
    """
    spec, form = _fuse_spec(recipe), recipe.input
    with steps.step("network to ONNX"):
        plain = network.to_onnx(_network_spec(recipe))
        _check_classes(plain, recipe)
    if samples or recipe.precision.type != "fp32":
        tracked = steps.track(samples, "activation ranges")
        feeds = ({IMAGE: normalised(sample.pixels, spec)} for sample in tracked)
        typed, precision = to_precision(plain, feeds, recipe.precision.type)
    else:
        nothing = np.zeros((1, form.channels, *form.size), np.float32)
        typed, precision = to_precision(plain, [{IMAGE: nothing}], "fp32")
        precision = dataclasses.replace(precision, layers=())
    with steps.step("frames in, masks out"):
        fused, inputs, outputs, axes = fuse(typed, spec)
    manifest = SegmentationManifest(
        **described(recipe, network, precision),
        inputs=inputs,
        outputs=outputs,
        axes=axes,
        preprocess=preprocess(recipe.input),
        heads=tuple(_head(head, recipe) for head in recipe.head),
        gate=_gate(recipe),
    )
    conversion = Conversion(
        network=network, plain=plain, typed=typed, fused=fused, spec=spec, manifest=manifest
    )
    return conversion, precision


def _gate(recipe: SegmentationRecipe) -> SegmentationGate:
    """What is demanded; nothing is measured yet."""
    gate = recipe.gate
    return SegmentationGate(
        skipped=gate.skip,
        agreement=gate.agreement,
        miou_drop=gate.miou_drop,
        images=recipe.images,
        num_images=0,
    )


def _network_spec(recipe: SegmentationRecipe) -> NetworkSpec:
    heads = tuple(HeadOutput(name=head.name, output=head.output) for head in recipe.head)
    return NetworkSpec.of_image(recipe.input.size, recipe.input.channels, heads, recipe.input.batch)


def _fuse_spec(recipe: SegmentationRecipe) -> FuseSpec:
    axes = {**DEFAULT_AXES, "batch": Axis(min=1, opt=1, max=recipe.input.batch)}
    return FuseSpec(
        heads=tuple(
            HeadSpec(
                name=head.name,
                activation=head.activation,
                emit=head.emit,
                grid=grid_of(head, recipe),
                threshold=head.threshold,
            )
            for head in recipe.head
        ),
        mean=recipe.input.mean,
        std=recipe.input.std,
        network_color=recipe.input.color,
        frame_color=recipe.input.frame_color,
        axes=axes,
    )


def _head(head: HeadSection, recipe: SegmentationRecipe) -> Head:
    return Head(
        name=head.name,
        classes=class_infos(head.classes),
        activation=head.activation,
        outputs={kind: output_name(head.name, kind, num_heads=len(recipe.head)) for kind in head.emit},
        grid=grid_of(head, recipe),
        threshold=head.threshold,
    )


def grid_of(head: HeadSection, recipe: SegmentationRecipe) -> tuple[int, int] | None:
    """Rows and columns of a head's grid; None where it emits none."""
    if "grid" not in head.emit:
        return None
    height, width = recipe.input.size
    return head.grid or (max(1, round(height / GRID_CELL)), max(1, round(width / GRID_CELL)))


def _check_classes(model: ModelProto, recipe: SegmentationRecipe) -> None:
    """The classes of each head must be those that its mask can hold.

    Raises:
        ExportError: If a head has another number of them.
    """
    types = value_types(checked(model))
    for head in recipe.head:
        dims = types[f"head_{head.name}"].dims
        channels = dims[1] if dims is not None and len(dims) == 4 else None
        named = len(class_infos(head.classes))
        if channels == 1 and named != 2:
            raise ExportError(
                f"head {head.name!r} has one channel, so its mask has the ids 0 and 1; 2 classes were "
                f"expected, {named} given: what is below the threshold and what is not, such as "
                "['background', 'road']"
            )
        if isinstance(channels, int) and channels > 1 and named != channels:
            raise ExportError(
                f"head {head.name!r} has {channels} channels, so {channels} classes were expected, in the "
                f"order of the channels; {named} given"
            )
