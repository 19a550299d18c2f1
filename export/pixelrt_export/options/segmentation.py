"""Options of `export` for networks that read frames into masks."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

from torch import nn

from pixelrt.errors import InputError
from pixelrt.manifest import Activation, ColorOrder, Emit
from pixelrt.strict import suggestion
from pixelrt_export.options.common import (
    Classes,
    CommonOptions,
    check_names,
    gate_skipped,
    place_in_recipe,
    plain,
    section,
    shared,
    spelled,
)
from pixelrt_export.recipe import GateSection, HeadSection, InputSection, SegmentationRecipe


class HeadOptions(TypedDict, total=False):
    """What to make of an output of the network; see `pixelrt_export.recipe.HeadSection`."""

    output: int | str
    activation: Activation
    emit: Sequence[Emit]
    grid: tuple[int, int]
    threshold: float


class ExportOptions(CommonOptions, HeadOptions, total=False):
    """Options of `export` that may be left out. Each means what the recipe's key of the same name means."""

    mean: Sequence[float]
    std: Sequence[float]
    color: ColorOrder
    frame_color: ColorOrder
    batch: int
    smaller: Sequence[tuple[int, int]]
    """Heights and widths of further inputs that the bundle shall have, from large to small."""
    heads: Mapping[str, HeadOptions]
    """Options per head, where there are several; those given for all are the defaults."""
    labels: str | os.PathLike[str]
    agreement: float
    miou_drop: float


KNOWN = ("size", "classes", "images", *ExportOptions.__annotations__)
STRANGERS = {
    "latent": "a network that reads frames takes no latent",
    "label": "the classes go into classes=",
    "mask": "the masks are what comes out; their classes go into classes=",
    "masks": "known masks go into labels=",
    "image": "what the network takes goes into size=, mean= and std=",
    "psnr": "masks are judged by agreement= and miou_drop=",
    "ssim": "masks are judged by agreement= and miou_drop=",
    "max_difference": "masks are judged by agreement= and miou_drop=",
    "samples": "the gate needs images=, and takes at most max_images= of them",
    "seed": "nothing is drawn at random",
}
"""Options of generators, and what to give instead."""

_OF_INPUT = ("mean", "std", "color", "frame_color", "batch", "smaller")
_OF_GATE = ("labels", "agreement", "miou_drop", "max_images")
_OF_HEAD = tuple(HeadOptions.__annotations__)


def recipe_of(model: nn.Module, out: Path, given: Mapping[str, Any]) -> SegmentationRecipe:
    """The recipe that the arguments of `export` amount to.

    Args:
        model: The network.
        out: Where the bundle will be.
        given: `ExportOptions`, and `size`, `classes` and `images`.

    Raises:
        InputError: If one is missing or makes no sense.
    """
    for name, example in (("size", "size=(384, 640)"), ("classes", "classes=['road', 'car']")):
        if given.get(name) is None:
            raise InputError(
                f"{name} is missing, as in {example}; or say task='generation', if the network writes images"
            )
    images = given.get("images")
    gate = {name: given[name] for name in _OF_GATE if name in given}
    if "labels" in gate:
        gate["labels"] = os.fspath(gate["labels"])
    if images is not None:
        gate["images"] = place_in_recipe(images)
    network_input = {name: given[name] for name in _OF_INPUT if name in given}
    return SegmentationRecipe(
        **shared(model, out, given),
        input=section(InputSection, {**network_input, "size": given["size"]}),
        head=tuple(_heads_of(given)),
        gate=section(GateSection, {**gate, "skip": gate_skipped(given)}),
        images=spelled(images),
    )


def _heads_of(given: Mapping[str, Any]) -> list[HeadSection]:
    classes: Classes | Mapping[str, Classes] = given["classes"]
    per_head = classes if isinstance(classes, Mapping) else {"scene": classes}
    special: Mapping[str, Any] = given.get("heads", {})
    for name in special:
        if name not in per_head:
            raise InputError(
                f"heads names {name!r}, and classes are given for {list(per_head)}"
                f"{suggestion(name, list(per_head))}; give classes for each head"
            )
        check_names(special[name], _OF_HEAD, f"option of head {name!r},")
    general = {name: given[name] for name in _OF_HEAD if name in given}
    if "output" in general and len(per_head) > 1:
        raise InputError(
            f"output = {general['output']!r} cannot hold for the heads {list(per_head)}; give each its own "
            "with heads={name: {'output': ...}}"
        )
    return [
        section(
            HeadSection,
            {**general, **special.get(name, {}), "name": name, "classes": plain(kinds)},
            f"head {name!r}",
        )
        for name, kinds in per_head.items()
    ]
