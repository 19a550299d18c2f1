"""The sizes of a recipe's input, each a recipe of its own, so that each passes its own gate."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from pixelrt.bundle import sha256
from pixelrt.manifest import Smaller, size_name, smaller_folder
from pixelrt_export.convert.segmentation import grid_of
from pixelrt_export.recipe import SegmentationRecipe
from pixelrt_export.report import SegmentationReport
from pixelrt_export.write import Made


def recipe_at(recipe: SegmentationRecipe, size: tuple[int, int]) -> SegmentationRecipe:
    """The recipe of one size alone. Heads stay as they are at the largest, their grids included.

    Args:
        recipe: That of all sizes.
        size: Height and width of the network's input.
    """
    heads = tuple(dataclasses.replace(head, grid=grid_of(head, recipe)) for head in recipe.head)
    return dataclasses.replace(
        recipe, head=heads, input=dataclasses.replace(recipe.input, size=size, smaller=())
    )


def together(made: Sequence[Made[SegmentationReport]]) -> list[Made[SegmentationReport]]:
    """The bundle of the largest size with those of the others inside it.

    Args:
        made: The sizes by themselves, from large to small.

    Returns:
        The same; the manifest and the report of the first name the others.
    """
    largest, *others = made
    manifests = [each.report.manifest for each in others]
    entries = tuple(
        Smaller(size=each.preprocess.size, sha256=sha256(each.to_json().encode())) for each in manifests
    )
    report = dataclasses.replace(
        largest.report,
        manifest=dataclasses.replace(largest.report.manifest, smaller=entries),
        smaller=tuple(manifests),
        notes=_all_notes(made),
    )
    return [dataclasses.replace(largest, report=report), *map(_inside, others)]


def _inside(made: Made[SegmentationReport]) -> Made[SegmentationReport]:
    """A bundle in its place in the larger one, whose report tells its own times alone."""
    size = made.report.manifest.preprocess.size
    prefix = f"{size_name(size)}: "  # of its steps, see `about_size`
    mine = {step: taken for step, taken in made.report.seconds.items() if step.startswith(prefix)}
    report = dataclasses.replace(made.report, seconds=mine)
    return dataclasses.replace(made, report=report, place=smaller_folder(size))


def _all_notes(made: Sequence[Made[SegmentationReport]]) -> tuple[str, ...]:
    """Those of all sizes: what holds for each of them once, and everything else with its size."""
    common = [note for note in made[0].report.notes if all(note in each.report.notes for each in made)]
    special = [
        f"at the size {size_name(each.report.manifest.preprocess.size)}: {note}"
        for each in made
        for note in each.report.notes
        if note not in common
    ]
    return *common, *special
