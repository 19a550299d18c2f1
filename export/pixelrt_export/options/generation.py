"""Options of `export` for networks that write images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from torch import nn

from pixelrt.errors import InputError
from pixelrt.manifest import ColorOrder, Distribution, Form, OutputActivation, ValueRange
from pixelrt_export.options.common import (
    Classes,
    CommonOptions,
    builtin,
    check_names,
    gate_skipped,
    place_in_recipe,
    plain,
    section,
    shared,
    spelled,
)
from pixelrt_export.recipe import (
    INPUTS,
    GenerationGateSection,
    GenerationRecipe,
    ImageSection,
    LabelSection,
    LatentSection,
    MaskSection,
    OutputSection,
)
from pixelrt_export.samples.common import Images

if TYPE_CHECKING:
    from typing_extensions import Required


class LatentOptions(TypedDict, total=False):
    """The noise that images are made of; see `pixelrt_export.recipe.LatentSection`."""

    size: Required[int | Sequence[int]]
    distribution: Distribution
    input: int | str


class LabelOptions(TypedDict, total=False):
    """The class of the image; see `pixelrt_export.recipe.LabelSection`."""

    names: Required[Sequence[str]]
    form: Form
    input: int | str


class MaskOptions(TypedDict, total=False):
    """The mask that the image is painted from; see `pixelrt_export.recipe.MaskSection`."""

    size: Required[tuple[int, int]]
    classes: Required[Classes]
    form: Form
    input: int | str


class ImageOptions(TypedDict, total=False):
    """The image that another one is made from; see `pixelrt_export.recipe.ImageSection`."""

    size: Required[tuple[int, int]]
    mean: Sequence[float]
    std: Sequence[float]
    color: ColorOrder
    frame_color: ColorOrder
    input: int | str


class OutputOptions(TypedDict, total=False):
    """The image that the network gives; see `pixelrt_export.recipe.OutputSection`."""

    range: Required[ValueRange]
    """Of the values: tanh -1 to 1, sigmoid 0 to 1, none 0 to 255."""
    activation: OutputActivation
    """What the network leaves out, none by default."""
    output: int | str
    """Index, key or attribute of what the network returns; the only one by default."""
    color: ColorOrder
    """Order of the network's three channels, rgb by default."""
    frame_color: ColorOrder
    """Order in which images come out, rgb by default."""
    batch: int
    """The most images at once, 16 by default."""


class GenerationOptions(CommonOptions, total=False):
    """Options of `export` with `task="generation"`. Each means what the recipe's key of that name means.

    Inputs, one or more: `latent`, `label`, `mask`, `image`. `output`, which is required, is an argument of
    `export`: the range of the values, or `OutputOptions` with `activation`, `output`, `color`, `frame_color`
    and `batch`. The gate: `masks`, `images`, `max_images` (64), `samples` (32), `seed` (0), `psnr` (40),
    `ssim` (0.99), `max_difference` (32), and `gate=False` to skip it. Of any task: `name` (the folder's),
    `precision` ("fp16"), `part`, `as_in_training` (none), `quiet` (False).
    """

    latent: int | Sequence[int] | LatentOptions
    """Its size is enough."""
    label: Sequence[str] | LabelOptions
    """The names are enough."""
    mask: MaskOptions
    image: ImageOptions
    masks: Images
    """A folder of PNGs of class ids, a source with ground truth, or arrays uint8[H, W]."""
    images: Images
    """A folder, a source, or arrays uint8[H, W, C]."""
    psnr: float
    """Least peak signal-to-noise ratio of an image, 40 dB by default."""
    ssim: float
    """Least structural similarity of an image, 0.99 by default."""
    max_difference: int
    """Largest difference of a byte, 32 by default."""
    samples: int
    """Images that are made where the network takes neither masks nor images, 32 by default."""
    seed: int
    """Of latents and noise, 0 by default."""


KNOWN = ("output", *GenerationOptions.__annotations__)
STRANGERS = {
    "size": "it belongs to an input, as in mask={'size': ...} or image={'size': ...}",
    "smaller": "a generator's bundle has one size",
    "classes": "they belong to an input, as in mask={'classes': ...} or label=[...]",
    "mean": "it belongs to an input, as in image={'mean': ...}",
    "std": "it belongs to an input, as in image={'std': ...}",
    "color": "it belongs to an image, as in image={'color': ...} or output={'color': ...}",
    "frame_color": "it belongs to an image, as in image={'frame_color': ...} or output={'frame_color': ...}",
    "batch": "it belongs to the output, as in output={'range': 'tanh', 'batch': 16}",
    "activation": "it belongs to the output, as in output={'range': 'tanh', 'activation': 'tanh'}",
    "heads": "a generator has one output: output={'output': ...} says which",
    "emit": "what comes out is an image",
    "grid": "what comes out is an image",
    "threshold": "what comes out is an image",
    "labels": "masks go into masks=, and labels take turns",
    "agreement": "images are judged by psnr=, ssim= and max_difference=",
    "miou_drop": "images are judged by psnr=, ssim= and max_difference=",
}
"""Options of segmentation networks, and what to give instead."""

_OF_GATE = ("psnr", "ssim", "max_difference", "samples", "seed", "max_images")
_KINDS: dict[str, tuple[type[Any], type[Any], str, str]] = {
    "latent": (LatentSection, LatentOptions, "size", "64, or {'size': [64, 1, 1]}"),
    "label": (LabelSection, LabelOptions, "names", "['cat', 'dog'], or {'names': [...]}"),
    "mask": (MaskSection, MaskOptions, "", "{'size': (128, 192), 'classes': [...]}"),
    "image": (ImageSection, ImageOptions, "", "{'size': (256, 256)}"),
    "output": (OutputSection, OutputOptions, "range", "'tanh', or {'range': 'tanh'}"),
}
"""Section, its options, the key that a bare value stands for, and an example."""
_LONGEST = 60
"""Characters of a value in a message."""


def recipe_of(model: nn.Module, out: Path, given: Mapping[str, Any]) -> GenerationRecipe:
    """The recipe that the arguments of `export` amount to.

    Args:
        model: The network.
        out: Where the bundle will be.
        given: `GenerationOptions` and `output`.

    Raises:
        InputError: If one is missing or makes no sense.
    """
    if given.get("output") is None:
        raise InputError(f"output is missing: the range of the network's values, {_KINDS['output'][3]}")
    sections = {name: _section(name, given[name]) for name in _KINDS if given.get(name) is not None}
    places = {key: place_in_recipe(given.get(key)) for key in ("masks", "images")}
    _check_inputs(sections, places)
    gate = {name: given[name] for name in _OF_GATE if name in given}
    called = dict.fromkeys(name for key in places if (name := spelled(given.get(key))))
    try:
        return GenerationRecipe(
            **shared(model, out, given),
            **sections,
            gate=section(GenerationGateSection, {**gate, **places, "skip": gate_skipped(given)}),
            images=", ".join(called),
        )
    except ValueError as problem:
        raise InputError(str(problem)) from problem


def _section(name: str, given: Any) -> Any:
    kind, options, short, example = _KINDS[name]
    value = builtin(given)
    bare = not isinstance(value, Mapping)
    if bare and not short:
        raise InputError(f"{name} is {_shortened(value)}, a mapping was expected, as in {name}={example}")
    values = {short: value} if bare else dict(value)
    check_names(values, options.__annotations__, f"key of {name},")
    if name == "latent" and isinstance(values.get("size"), int):
        values["size"] = [values["size"]]
    if "classes" in values:
        values["classes"] = plain(values["classes"])
    try:
        return section(kind, values, name)
    except InputError as problem:
        raise InputError(f"{problem}; as in {name}={example}" if bare else str(problem)) from problem


def _shortened(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _check_inputs(sections: Mapping[str, Any], places: Mapping[str, Any]) -> None:
    """What a recipe of the same content would be refused for, in the words of arguments."""
    if not any(name in sections for name in INPUTS):
        raise InputError(
            "there is no input; one or more of latent=, label=, mask= and image= were expected: what "
            "forward() takes"
        )
    for name in ("mask", "image"):
        if places[f"{name}s"] is not None and name not in sections:
            raise InputError(
                f"{name}s are given, and no {name}: the network takes none; leave {name}s out, or describe "
                f"the input, as in {name}={_KINDS[name][3]}"
            )
