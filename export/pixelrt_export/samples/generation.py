"""What a generator makes the gate's images from: latents and noise of a seed, labels, masks and images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelrt.errors import InputError, SourceError
from pixelrt.generation.drawing import draw_latents, draw_noise
from pixelrt.video.sources import open_source
from pixelrt_export.gate.generation import GeneratorSample
from pixelrt_export.generator_spec import IMAGE, LABEL, LATENT, MASK, GeneratorSpec
from pixelrt_export.images import find_images, read_frame, read_label, resized
from pixelrt_export.progress import Steps
from pixelrt_export.recipe import GenerationRecipe, ImageSection
from pixelrt_export.samples.common import (
    Arrays,
    Bytes,
    Choice,
    Item,
    check_channels,
    chosen,
    found_text,
    in_order,
    is_folder,
    of_recipe,
    some,
)
from pixelrt_export.samples.masks import check_masks, mask_item, read_masks
from pixelrt_export.samples.needs import can_do_without, missing, wanted

_ALL = 2**31 - 1


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
    there = {
        "masks": _is_there(recipe.gate.masks, given.masks),
        "images": _is_there(recipe.gate.images, given.images),
    }
    kinds = wanted(recipe)
    for what in (what for what in kinds if not there[what]):
        if can_do_without(recipe):
            return None
        raise missing(what, recipe)
    if not kinds:
        return Material(tuple(f"sample {index}" for index in range(recipe.gate.samples)))
    with steps.step(f"reading {' and '.join(kinds)}"):
        masks, images = _read(recipe, given)
    return Material(
        names=tuple(item.name for item in masks or images),
        masks=tuple(item.array for item in masks) or None,
        images=tuple(item.array for item in images) or None,
    )


def _is_there(place: str | None, arrays: Arrays | None) -> bool:
    return place is not None and (arrays is None or len(arrays) > 0)


# --- reading --------------------------------------------------------------------------------------


def _read(recipe: GenerationRecipe, given: Given) -> tuple[list[Item], list[Item]]:
    """Masks and images, as many of both; none of what the network does not take."""
    places = (recipe.gate.masks, recipe.gate.images)
    if all(place is not None and is_folder(place) for place in places):
        masks, images = _pairs_by_name(recipe)
    else:
        of_masks, of_images = Choice(recipe.gate.max_images), Choice(recipe.gate.max_images)
        masks = read_masks(recipe, given.masks, of_masks)
        images = _images(recipe, given.images, of_images)
        if masks and images:
            _check_pairs(of_masks.count, of_images.count, recipe.images)
    if recipe.mask is not None:
        check_masks(masks, recipe.mask)
    return masks, images


def _pairs_by_name(recipe: GenerationRecipe) -> tuple[list[Item], list[Item]]:
    assert recipe.mask is not None
    assert recipe.image is not None
    folder, masks = Path(recipe.gate.images or ""), Path(recipe.gate.masks or "")
    if (masks / "images").is_dir() and (masks / "labels").is_dir():
        masks = masks / "labels"
    found = find_images(folder, labels=masks, max_images=recipe.gate.max_images)
    return (
        [mask_item(file.name, read_label(file), recipe.mask) for file in found.labels or ()],
        [_image_file(file, recipe.image) for file in found.images],
    )


def _check_pairs(masks: int | None, images: int | None, spelled: str) -> None:
    if masks is not None and masks == images:
        return
    unknown = "nobody knows how many"
    raise SourceError(
        f"there are {unknown if masks is None else masks} masks and {unknown if images is None else images} "
        f"images ({spelled}); they belong together in their order, so as many were expected, or two folders "
        "with files of the same names"
    )


def _images(recipe: GenerationRecipe, arrays: Arrays | None, choice: Choice) -> list[Item]:
    section, place = recipe.image, recipe.gate.images
    if section is None or place is None:
        return []
    if arrays is not None:
        return [_image_array(arrays[index], index, section) for index in sorted(choice(len(arrays)))]
    if is_folder(place):
        files = find_images(Path(place), max_images=_ALL).images
        return [_image_file(files[index], section) for index in sorted(choice(len(files)))]
    check_channels(place, section.channels)
    with of_recipe("gate.images"):
        opened = open_source(place)
    with opened as source:
        items = [
            Item(frame.name, resized(in_order(frame.image, section.frame_color), section.size))
            for frame in chosen(source, choice(source.num_frames))
        ]
    return some(items, place, "frame")


def _image_file(file: Path, section: ImageSection) -> Item:
    return Item(file.name, resized(read_frame(file, section.channels, section.frame_color), section.size))


def _image_array(image: object, index: int, section: ImageSection) -> Item:
    wanted = f"an image uint8[H, W, {section.channels}]"
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or not image.size:
        raise InputError(f"images[{index}] is {found_text(image)}, {wanted} was expected")
    if image.shape[2] != section.channels:
        raise InputError(
            f"images[{index}] has {image.shape[2]} channels, {wanted} was expected: as many as mean has"
        )
    return Item(f"images[{index}]", resized(image, section.size))
