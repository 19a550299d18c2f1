"""What a generator makes the gate's images from: latents and noise of a seed, labels, masks and images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pixelrt.errors import ExportError, InputError, SourceError
from pixelrt.frames import nearest
from pixelrt.generation.drawing import draw_latents, draw_noise
from pixelrt.metrics import UNLABELLED, foreign_ids
from pixelrt.video.sources import MaskSource, open_masks, open_source
from pixelrt_export.gate.generation import GeneratorSample
from pixelrt_export.generator_spec import IMAGE, LABEL, LATENT, MASK, GeneratorSpec
from pixelrt_export.images import find_images, read_frame, read_label, resized
from pixelrt_export.palettes import class_infos
from pixelrt_export.progress import Steps
from pixelrt_export.recipe import GenerationRecipe, ImageSection, MaskSection
from pixelrt_export.samples.common import (
    Arrays,
    Bytes,
    check_channels,
    chosen,
    found_text,
    in_order,
    is_folder,
    spread,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What came as arrays."""

    masks: Arrays | None = None
    images: Arrays | None = None


@dataclass(frozen=True, slots=True)
class Material:
    """What images are made from, but for what is drawn from a seed: the network says how much that is."""

    names: tuple[str, ...]
    """Of the samples, for messages and the report."""
    masks: tuple[Bytes, ...] | None = None
    """uint8[h, w] at the network's size, of known classes; None where the network takes none."""
    images: tuple[Bytes, ...] | None = None
    """uint8[h, w, C] at the network's size, in the order of the frames; None likewise."""

    def samples(self, spec: GeneratorSpec, seed: int) -> list[GeneratorSample]:
        """Latents and noise are those that the runtime draws from the seed; labels take turns."""
        return [
            GeneratorSample(name=name, feeds=self._feeds(index, spec, seed))
            for index, name in enumerate(self.names)
        ]

    def _feeds(self, index: int, spec: GeneratorSpec, seed: int) -> dict[str, NDArray[Any]]:
        feeds: dict[str, NDArray[Any]] = {}
        if spec.latent is not None:
            feeds[LATENT] = draw_latents(spec.latent, seed, [index])
        if spec.label is not None:
            feeds[LABEL] = np.array([index % len(spec.label.names)], np.int32)
        if self.masks is not None:
            feeds[MASK] = self.masks[index][np.newaxis]
        if self.images is not None:
            feeds[IMAGE] = self.images[index][np.newaxis]
        return feeds | {noise.name: draw_noise(noise, seed, [index]) for noise in spec.noise}


def read_material(recipe: GenerationRecipe, given: Given, steps: Steps) -> Material | None:
    """Read the masks and images that a recipe names, or take those that came as arrays.

    There are at most `gate.max_images` of them, spread over the whole. Masks and images of two folders belong
    together by their names; all others by their order.

    Returns:
        The material; None where a mask or an image is missing, and neither gate nor precision needs one.

    Raises:
        ExportError: If one is missing that is needed, or masks hold ids of other classes.
        SourceError: If a mask or an image cannot be read, or has no partner.
        InputError: If an array is of another type or shape.
    """
    wanted = {"mask": recipe.mask is not None, "image": recipe.image is not None}
    named = {"mask": _masks_given(recipe, given), "image": _images_given(recipe, given)}
    for what in (what for what in wanted if wanted[what] and not named[what]):
        if recipe.gate.skip and recipe.precision.type == "fp32":
            return None
        raise _missing(what, recipe)
    if not any(wanted.values()):
        return Material(tuple(f"sample {index}" for index in range(recipe.gate.samples)))
    with steps.step(f"reading {' and '.join(f'{what}s' for what in wanted if wanted[what])}"):
        return _read(recipe, given)


def _masks_given(recipe: GenerationRecipe, given: Given) -> bool:
    return recipe.gate.masks is not None if given.masks is None else len(given.masks) > 0


def _images_given(recipe: GenerationRecipe, given: Given) -> bool:
    return recipe.gate.images is not None if given.images is None else len(given.images) > 0


_KINDS = {
    "mask": "a folder of PNGs of class ids, or a source with ground truth such as test://drive",
    "image": "a folder of what the network will see, or another source of frames",
}


def _missing(what: str, recipe: GenerationRecipe) -> ExportError:
    ways = f"(gate.{what}s, {what}s=)"
    if recipe.gate.skip:
        return ExportError(
            f"{recipe.precision.type} needs {what}s, and none were given: they say which layers must stay "
            f"FP32, and random noise would say something else. Give {_KINDS[what]} {ways}, or use the "
            "precision fp32"
        )
    return ExportError(
        f"no {what}s were given, and the gate needs some: give {_KINDS[what]} {ways}, a few dozen are "
        "enough; or skip the gate with the precision fp32 (--no-gate, gate=False), and the bundle will "
        "record that nobody checked it"
    )


# --- reading --------------------------------------------------------------------------------------


class _Item(NamedTuple):
    name: str
    array: Bytes


@dataclass(slots=True)
class _Choice:
    """Which of so many are used, and how many there were."""

    limit: int
    counts: list[int | None] = field(default_factory=list)

    def __call__(self, count: int | None) -> set[int]:
        self.counts.append(count)
        return spread(count, self.limit)


def _read(recipe: GenerationRecipe, given: Given) -> Material:
    choice = _Choice(recipe.gate.max_images)
    if recipe.mask is None:
        images = _images(recipe, given, choice)
        return Material(_names(images), images=_arrays(images))
    if recipe.image is None:
        masks = _checked(_masks(recipe, given, choice), recipe.mask)
        return Material(_names(masks), masks=_arrays(masks))
    if _both_folders(recipe, given):
        masks, images = _pairs_by_name(recipe)
    else:
        masks, images = _masks(recipe, given, choice), _images(recipe, given, choice)
        _check_pairs(choice, recipe)
    masks = _checked(masks, recipe.mask)
    return Material(_names(masks), masks=_arrays(masks), images=_arrays(images))


def _names(items: Sequence[_Item]) -> tuple[str, ...]:
    return tuple(item.name for item in items)


def _arrays(items: Sequence[_Item]) -> tuple[Bytes, ...]:
    return tuple(item.array for item in items)


def _both_folders(recipe: GenerationRecipe, given: Given) -> bool:
    masks, images = recipe.gate.masks, recipe.gate.images
    return (
        given.masks is None
        and given.images is None
        and masks is not None
        and images is not None
        and is_folder(masks)
        and is_folder(images)
    )


def _pairs_by_name(recipe: GenerationRecipe) -> tuple[list[_Item], list[_Item]]:
    assert recipe.mask is not None
    assert recipe.image is not None
    folder, masks = Path(recipe.gate.images or ""), Path(recipe.gate.masks or "")
    if (masks / "images").is_dir() and (masks / "labels").is_dir():
        masks = masks / "labels"
    found = find_images(folder, labels=masks, max_images=recipe.gate.max_images)
    return (
        [_mask(file.name, read_label(file), recipe.mask) for file in found.labels or ()],
        [_image_file(file, recipe.image) for file in found.images],
    )


def _check_pairs(choice: _Choice, recipe: GenerationRecipe) -> None:
    masks, images = choice.counts
    if masks is not None and masks == images:
        return
    unknown = "nobody knows how many"
    raise SourceError(
        f"there are {unknown if masks is None else masks} masks and {unknown if images is None else images} "
        f"images ({recipe.images}); they belong together in their order, so as many were expected, or two "
        "folders with files of the same names"
    )


def _masks(recipe: GenerationRecipe, given: Given, choice: _Choice) -> list[_Item]:
    assert recipe.mask is not None
    if given.masks is not None:
        indices = sorted(choice(len(given.masks)))
        return [_mask_array(given.masks[index], index, recipe.mask) for index in indices]
    with open_masks(recipe.gate.masks or "") as source:
        _check_classes(source, recipe)
        picked = chosen(source, choice(source.num_frames))
        items = [_mask(mask.name, mask.ids, recipe.mask) for mask in picked]
    return _some(items, recipe.gate.masks, "mask")


def _images(recipe: GenerationRecipe, given: Given, choice: _Choice) -> list[_Item]:
    section, place = recipe.image, recipe.gate.images or ""
    assert section is not None
    if given.images is not None:
        indices = sorted(choice(len(given.images)))
        return [_image_array(given.images[index], index, section) for index in indices]
    if is_folder(place):
        files = find_images(Path(place), max_images=2**31).images
        return [_image_file(files[index], section) for index in sorted(choice(len(files)))]
    check_channels(place, section.channels)
    with open_source(place) as source:
        items = [
            _Item(frame.name, resized(in_order(frame.image, section.frame_color), section.size))
            for frame in chosen(source, choice(source.num_frames))
        ]
    return _some(items, place, "frame")


def _some(items: list[_Item], place: str | None, what: str) -> list[_Item]:
    if not items:
        raise SourceError(f"{place} gives no {what}, at least one was expected; name another source")
    return items


def _image_file(file: Path, section: ImageSection) -> _Item:
    return _Item(file.name, resized(read_frame(file, section.channels, section.frame_color), section.size))


def _image_array(image: object, index: int, section: ImageSection) -> _Item:
    wanted = f"an image uint8[H, W, {section.channels}]"
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or not image.size:
        raise InputError(f"images[{index}] is {found_text(image)}, {wanted} was expected")
    if image.shape[2] != section.channels:
        raise InputError(
            f"images[{index}] has {image.shape[2]} channels, {wanted} was expected: as many as mean has"
        )
    return _Item(f"images[{index}]", resized(image, section.size))


# --- masks ----------------------------------------------------------------------------------------


def _mask_array(mask: object, index: int, section: MaskSection) -> _Item:
    if not isinstance(mask, np.ndarray) or mask.dtype != np.uint8 or mask.ndim != 2 or not mask.size:
        raise InputError(
            f"masks[{index}] is {found_text(mask)}, a mask uint8[H, W] of class ids was expected"
        )
    return _mask(f"masks[{index}]", mask, section)


def _mask(name: str, ids: Bytes, section: MaskSection) -> _Item:
    return _Item(name, nearest(ids, *section.size))


def _check_classes(source: MaskSource, recipe: GenerationRecipe) -> None:
    """Ids of a source that knows what they mean must mean the recipe's classes."""
    assert recipe.mask is not None
    names = tuple(info.name for info in class_infos(recipe.mask.classes))
    if source.truth_classes is not None and source.truth_classes != names:
        raise ExportError(
            f"the masks of {recipe.gate.masks} have the classes {', '.join(source.truth_classes)}, and the "
            f"network's are {', '.join(names)}; give masks of the network's own classes"
        )


def _checked(masks: list[_Item], section: MaskSection) -> list[_Item]:
    """Refuse ids that say nothing to the network, or something else than was meant."""
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
    if count > 1 and len(found) > 1 and len(found[found < count]) < 2:
        raise ExportError(
            f"the masks hold {' and '.join(map(str, found))} alone, ids of {count} classes from 0 to "
            f"{count - 1} were expected ({UNLABELLED} counts as unlabelled); write class ids into the masks, "
            "such as 1 for 255"
        )
    return masks
