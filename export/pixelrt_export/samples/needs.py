"""Which images and masks a recipe must name: found out before anything is loaded that takes seconds."""

from __future__ import annotations

from pathlib import Path

from pixelrt.errors import ExportError, SourceError
from pixelrt.strict import suggestion
from pixelrt_export.recipe import GenerationRecipe, SegmentationRecipe

_KINDS = {
    "masks": "a folder of PNGs of class ids, or a source with ground truth such as test://drive",
    "images": "a folder of what the network will see, or another source of frames",
    "labels": "a folder of PNGs of class ids with the names of the images",
}
_FP32 = 'the precision fp32 (type = "fp32" in [precision], in Python precision="fp32")'
_NO_GATE = "skip the gate (--no-gate, in Python gate=False)"


def wanted(recipe: SegmentationRecipe | GenerationRecipe) -> tuple[str, ...]:
    """What the network takes of `masks` and `images`."""
    if isinstance(recipe, SegmentationRecipe):
        return ("images",)
    given = {"masks": recipe.mask, "images": recipe.image}
    return tuple(what for what, section in given.items() if section is not None)


def can_do_without(recipe: SegmentationRecipe | GenerationRecipe) -> bool:
    """Whether neither the gate nor the precision needs them."""
    return recipe.gate.skip and recipe.precision.type == "fp32"


def missing(what: str, recipe: SegmentationRecipe | GenerationRecipe) -> ExportError:
    """The error of a recipe without what it needs, `masks` or `images`."""
    give = f"{_KINDS[what]} (gate.{what}, {what}=)"
    if recipe.gate.skip:
        return ExportError(
            f"{recipe.precision.type} needs {what}, and none were given: they say which layers must stay "
            f"FP32, and random noise would say something else. Give {give}, or use {_FP32}"
        )
    both = _NO_GATE if recipe.precision.type == "fp32" else f"{_NO_GATE} and also set {_FP32}"
    return ExportError(
        f"no {what} were given, and the gate needs some: give {give}, a few dozen are enough. To export "
        f"without any, {both}; the bundle then records that nobody checked it"
    )


def check_places(recipe: SegmentationRecipe | GenerationRecipe) -> None:
    """Refuse a recipe that lacks images or masks, or names some that do not exist.

    Raises:
        ExportError: If some are missing that the gate or the precision needs.
        SourceError: If a file or a folder does not exist.
    """
    for what in wanted(recipe):
        if getattr(recipe.gate, what) is None and not can_do_without(recipe):
            raise missing(what, recipe)
    for what, kind in _KINDS.items():
        place = getattr(recipe.gate, what, None)
        if place is not None and "://" not in place and not (path := Path(place)).exists():
            beside = [item.name for item in path.parent.iterdir()] if path.parent.is_dir() else []
            raise SourceError(
                f"gate.{what}: {path} does not exist{suggestion(path.name, beside)}; name {kind}; paths are "
                "relative to the recipe"
            )
