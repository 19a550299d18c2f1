"""From a generator to the deployed graph: FP32 ONNX, precision, and what goes around it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, helper

from pixelrt.errors import ExportError
from pixelrt.manifest import (
    GenerationGate,
    GenerationManifest,
    LabelInfo,
    LatentInfo,
    MaskInfo,
    NoiseInfo,
    OutputInfo,
    Tensor,
)
from pixelrt_export.convert.common import described, preprocess
from pixelrt_export.fuse_generator import fuse_generator
from pixelrt_export.gate.generation import GeneratorConversion, GeneratorSample, network_feeds
from pixelrt_export.generator_spec import (
    GENERATED,
    IMAGE,
    LABEL,
    LATENT,
    MASK,
    GeneratorSpec,
    generator_axes,
)
from pixelrt_export.network import HeadOutput, Network, NetworkInput, NetworkSpec
from pixelrt_export.palettes import class_infos
from pixelrt_export.precision import PrecisionReport, to_precision
from pixelrt_export.progress import Steps
from pixelrt_export.recipe import GenerationRecipe, OutputSection
from pixelrt_export.samples.generation import Material


def convert(
    recipe: GenerationRecipe, network: Network, material: Material | None, steps: Steps
) -> tuple[GeneratorConversion, PrecisionReport, list[GeneratorSample]]:
    """From a network to the deployed graph: FP32 ONNX, precision, and what goes around it.

    Args:
        recipe: What to make.
        network: The original.
        material: What images are made from, for the activation ranges. None for fp32, which changes no type;
            ranges are not reported then.
        steps: Shows progress.

    Returns:
        The conversion, its precision, and the samples that ranges were measured on: only the network says
        what noise they hold.

    Raises:
        ExportError: If the network cannot be converted, or the recipe does not fit it.
    """
    with steps.step("network to ONNX"):
        plain = network.to_onnx(_network_spec(recipe))
    spec = _generator_spec(recipe, network.noise)
    _check_used(plain, spec, network.description)
    samples = [] if material is None else material.samples(spec, recipe.gate.seed)
    typed, precision = _typed(recipe, plain, spec, samples, steps)
    with steps.step("bytes of images out"):
        fused, inputs, outputs, axes = fuse_generator(typed, spec)
    manifest = GenerationManifest(
        **described(recipe, network, precision),
        inputs=inputs,
        outputs=outputs,
        axes=axes,
        latent=spec.latent,
        label=spec.label,
        mask=spec.mask,
        image=spec.image,
        noise=spec.noise,
        output=_output(recipe.output, outputs[0]),
        gate=_gate(recipe),
    )
    conversion = GeneratorConversion(
        network=network, plain=plain, typed=typed, fused=fused, spec=spec, manifest=manifest
    )
    return conversion, precision, samples


def _check_used(plain: ModelProto, spec: GeneratorSpec, name: str) -> None:
    """Refuse an input without an effect, which is no input of the ONNX any more.

    Raises:
        ExportError: If there is one.
    """
    used = {value.name for value in plain.graph.input}
    if noise := [one for one in spec.noise if one.name not in used]:
        raise ExportError(
            f"{name} draws random numbers ({noise[0].what}) and does not use them; take them out of forward()"
        )
    if unused := [one for one in spec.network_inputs() if one not in used]:
        raise ExportError(
            f"{name} does not use its input {unused[0]!r}: no image would change with it. Leave "
            f"[{unused[0]}] out, or see whether it goes to the right parameter of forward() (input = ...)"
        )


def _typed(
    recipe: GenerationRecipe,
    plain: ModelProto,
    spec: GeneratorSpec,
    samples: Sequence[GeneratorSample],
    steps: Steps,
) -> tuple[ModelProto, PrecisionReport]:
    if samples:
        tracked = steps.track(samples, "activation ranges")
        feeds = (network_feeds(sample.feeds, spec) for sample in tracked)
        return to_precision(plain, feeds, recipe.precision.type)
    typed, precision = to_precision(plain, [_nothing(spec)], "fp32")
    return typed, dataclasses.replace(precision, layers=())


def _nothing(spec: GeneratorSpec) -> dict[str, NDArray[Any]]:
    """Zeros for every input of the bare network, batch 1."""
    zeros = {}
    for name, kind in spec.network_inputs().items():
        assert kind.dims is not None
        shape = [1, *(int(side) for side in kind.dims[1:] if side is not None)]
        zeros[name] = np.zeros(shape, helper.tensor_dtype_to_np_dtype(kind.elem_type))
    return zeros


def _network_spec(recipe: GenerationRecipe) -> NetworkSpec:
    output = HeadOutput(name=GENERATED, output=recipe.output.output)
    return NetworkSpec(inputs=tuple(_network_inputs(recipe)), heads=(output,), max_batch=recipe.output.batch)


def _network_inputs(recipe: GenerationRecipe) -> list[NetworkInput]:
    """What the bare network takes."""
    inputs = []
    if (latent := recipe.latent) is not None:
        inputs.append(NetworkInput(name=LATENT, size=latent.size, parameter=latent.input, range=(-1.0, 1.0)))
    if (label := recipe.label) is not None:
        inputs.append(_of_classes(LABEL, label.form, len(label.names), (), label.input))
    if (mask := recipe.mask) is not None:
        inputs.append(_of_classes(MASK, mask.form, len(class_infos(mask.classes)), mask.size, mask.input))
    if (image := recipe.image) is not None:
        inputs.append(NetworkInput(name=IMAGE, size=(image.channels, *image.size), parameter=image.input))
    return inputs


def _of_classes(
    name: str, form: str, count: int, size: tuple[int, ...], parameter: int | str | None
) -> NetworkInput:
    if form == "one_hot":
        return NetworkInput(name=name, size=(count, *size), parameter=parameter, one_hot=True)
    return NetworkInput(name=name, size=size, dtype="int64", parameter=parameter, range=(0, count))


def _generator_spec(recipe: GenerationRecipe, noise: tuple[NoiseInfo, ...]) -> GeneratorSpec:
    latent, label, mask, image = recipe.latent, recipe.label, recipe.mask, recipe.image
    return GeneratorSpec(
        latent=None if latent is None else LatentInfo(size=latent.size, distribution=latent.distribution),
        label=None if label is None else LabelInfo(names=label.names),
        label_form="index" if label is None else label.form,
        mask=None
        if mask is None
        else MaskInfo(size=mask.size, classes=class_infos(mask.classes), form=mask.form),
        image=None if image is None else preprocess(image),
        image_color="rgb" if image is None else image.color,
        noise=noise,
        range=recipe.output.range,
        activation=recipe.output.activation,
        network_color=recipe.output.color,
        frame_color=recipe.output.frame_color,
        axes=generator_axes(recipe.output.batch),
    )


def _output(section: OutputSection, generated: Tensor) -> OutputInfo:
    _, height, width, channels = generated.shape
    return OutputInfo(
        size=(int(height), int(width)),
        channels=1 if channels == 1 else 3,
        range=section.range,
        activation=section.activation,
        color=section.frame_color,
    )


def _gate(recipe: GenerationRecipe) -> GenerationGate:
    """What is demanded; nothing is measured yet."""
    gate = recipe.gate
    return GenerationGate(
        skipped=gate.skip,
        psnr=gate.psnr,
        ssim=gate.ssim,
        max_difference=gate.max_difference,
        seed=gate.seed,
        images=recipe.images,
        num_images=0,
    )
