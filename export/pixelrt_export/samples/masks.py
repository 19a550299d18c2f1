"""The masks that a generator paints: from a folder, from ground truth, or from arrays."""

from __future__ import annotations

import numpy as np

from pixelrt.errors import ExportError, InputError
from pixelrt.frames import nearest
from pixelrt.metrics import UNLABELLED, foreign_ids
from pixelrt.video.sources import MaskSource, open_masks
from pixelrt_export.palettes import class_infos
from pixelrt_export.recipe import GenerationRecipe, MaskSection
from pixelrt_export.samples.common import Arrays, Bytes, Choice, Item, chosen, found_text, of_recipe, some


def read_masks(recipe: GenerationRecipe, arrays: Arrays | None, choice: Choice) -> list[Item]:
    """Masks at the network's size, those that the recipe names or those that came as arrays.

    Raises:
        SourceError: If there are none, or one cannot be read.
        ExportError: If they come from a source of other classes.
        InputError: If an array is of another type or shape.
    """
    section, place = recipe.mask, recipe.gate.masks
    if section is None or place is None:
        return []
    if arrays is not None:
        return [_mask_array(arrays[index], index, section) for index in sorted(choice(len(arrays)))]
    with of_recipe("gate.masks"):
        opened = open_masks(place)
    with opened as source:
        _check_classes(source, place, section)
        picked = chosen(source, choice(source.num_frames))
        items = [mask_item(mask.name, mask.ids, section) for mask in picked]
    return some(items, place, "mask")


def mask_item(name: str, ids: Bytes, section: MaskSection) -> Item:
    """A mask at the network's size, by nearest neighbour."""
    return Item(name, nearest(ids, *section.size))


def _mask_array(mask: object, index: int, section: MaskSection) -> Item:
    if not isinstance(mask, np.ndarray) or mask.dtype != np.uint8 or mask.ndim != 2 or not mask.size:
        raise InputError(
            f"masks[{index}] is {found_text(mask)}, a mask uint8[H, W] of class ids was expected"
        )
    return mask_item(f"masks[{index}]", mask, section)


def _check_classes(source: MaskSource, place: str, section: MaskSection) -> None:
    """Ids of a source that knows what they mean must mean the network's classes."""
    names = tuple(info.name for info in class_infos(section.classes))
    if source.truth_classes is not None and source.truth_classes != names:
        raise ExportError(
            f"the masks of {place} have the classes {', '.join(source.truth_classes)}, and the "
            f"network's are {', '.join(names)}; give masks of the network's own classes"
        )


def check_masks(masks: list[Item], section: MaskSection) -> None:
    """Refuse ids that say nothing to the network, or something else than was meant.

    Raises:
        ExportError: If a mask holds such ids; it is named.
    """
    count = len(class_infos(section.classes))
    for name, ids in masks:
        if strangers := foreign_ids(ids, count):
            raise ExportError(
                f"the mask {name} holds the ids {', '.join(map(str, strangers))}, and the network has "
                f"{count} classes: 0 to {count - 1}, and {count} or {UNLABELLED} for unlabelled pixels, were "
                "expected; give masks of these classes"
            )
        if section.form == "index" and ids.max() >= count:
            raise ExportError(
                f"the mask {name} has unlabelled pixels ({ids.max()}), and with form = 'index' the network "
                f"gets that number: ids from 0 to {count - 1} were expected; fill them, or name the class in "
                "classes if the network knows it"
            )
    found = np.unique(np.concatenate([np.unique(ids) for _, ids in masks]))
    known = found[found < count]
    if not len(known) or (count > 1 and len(known) < 2 and len(known) < len(found)):
        raise ExportError(
            f"the masks hold {' and '.join(map(str, found))} alone, ids of {count} classes from 0 to "
            f"{count - 1} were expected ({UNLABELLED} counts as unlabelled); write class ids into the masks, "
            "such as 1 for 255"
        )
