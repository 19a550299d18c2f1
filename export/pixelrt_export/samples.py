"""The images of an export: from a folder, from any source of the runtime, or from arrays."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pixelrt.errors import InputError, SourceError
from pixelrt.video.sources import Frame, Source, open_source
from pixelrt_export.images import evenly_spread, find_images, labels_beside, read_frame, read_label, resized
from pixelrt_export.palettes import class_infos
from pixelrt_export.progress import Steps
from pixelrt_export.recipe import SegmentationRecipe
from pixelrt_export.verify import Sample

Bytes = NDArray[np.uint8]
Images = str | os.PathLike[str] | Sequence[Bytes]
"""A folder, the address of a source, or frames uint8[H, W, C]."""

ARRAYS = "arrays://"
"""Stands in a recipe for images that came as arrays."""
_STEP = "reading images"
_ASPECT_TOLERANCE = 0.02


def read_samples(recipe: SegmentationRecipe, steps: Steps) -> list[Sample]:
    """Read the images and labels that a recipe names, at most as many as it wants, spread over the whole.

    A folder may hold images of any number of channels. With several heads, the folder of labels holds a
    folder per head, called like it; label files beside them belong to the first head. Any other source is one
    that `pixelrt run` opens; its ground truth counts where its classes are those of the head.

    Raises:
        SourceError: If images or labels are missing, unreadable or do not fit; the file is named.
    """
    images = recipe.gate.images or ""
    if "://" in images or Path(images).is_file():
        return _from_source(images, recipe, steps)
    return _from_folder(Path(images), recipe, steps)


def samples_of(frames: Sequence[Bytes], recipe: SegmentationRecipe) -> list[Sample]:
    """Samples from frames uint8[H, W, C] in the order of `frame_color`, evenly spread over them.

    Raises:
        InputError: If one is of another type or shape, or labels were given with them.
    """
    if recipe.gate.labels is not None:
        raise InputError(
            "labels are a folder, and the images came as arrays; give the images as a folder too"
        )
    channels, samples = recipe.input.channels, []
    for index in evenly_spread(len(frames), recipe.gate.max_images):
        frame = frames[index]
        if not isinstance(frame, np.ndarray) or frame.dtype != np.uint8 or frame.ndim != 3 or not frame.size:
            found = (
                f"{frame.dtype}{list(frame.shape)}" if isinstance(frame, np.ndarray) else type(frame).__name__
            )
            raise InputError(f"images[{index}] is {found}, a frame uint8[H, W, {channels}] was expected")
        if frame.shape[2] != channels:
            raise InputError(
                f"images[{index}] has {frame.shape[2]} channels, the network takes {channels} (as many as "
                "mean has)"
            )
        samples.append(Sample(name=f"images[{index}]", pixels=resized(frame, recipe.input.size)))
    return samples


def _from_folder(folder: Path, recipe: SegmentationRecipe, steps: Steps) -> list[Sample]:
    form, limit = recipe.input, recipe.gate.max_images
    labels = {
        head: find_images(folder, labels=place, max_images=limit).labels or ()
        for head, place in _label_folders(folder, recipe).items()
    }
    samples = []
    for index, path in enumerate(steps.track(find_images(folder, max_images=limit).images, _STEP)):
        frame = read_frame(path, form.channels, form.frame_color)
        truth = {head: read_label(files[index]) for head, files in labels.items()}
        for head, label in truth.items():
            _check_aspect(label.shape, frame.shape, f"the label {labels[head][index]}")
        samples.append(Sample(name=path.name, pixels=resized(frame, form.size), labels=truth))
    return samples


def _label_folders(images: Path, recipe: SegmentationRecipe) -> dict[str, Path]:
    """Head name to its folder of labels: those that the recipe names, or else those beside the images."""
    folder = Path(recipe.gate.labels) if recipe.gate.labels is not None else labels_beside(images)
    if folder is None:
        return {}
    inner = {head.name: folder / head.name for head in recipe.head if (folder / head.name).is_dir()}
    first = recipe.head[0].name
    has_files = folder.is_dir() and any(folder.glob("*.png"))
    return {first: folder, **inner} if has_files or not inner else inner


def _check_aspect(label: tuple[int, ...], frame: tuple[int, ...], what: str) -> None:
    if abs(label[0] * frame[1] / (label[1] * frame[0]) - 1) > _ASPECT_TOLERANCE:
        raise SourceError(
            f"{what} is {label[0]}x{label[1]}, its image is {frame[0]}x{frame[1]} (height x width); the same "
            "size, or the same proportions, were expected"
        )


def _from_source(address: str, recipe: SegmentationRecipe, steps: Steps) -> list[Sample]:
    form = recipe.input
    if form.channels != 3:
        raise SourceError(
            f"{address} gives frames of 3 channels, the network takes {form.channels}; name a "
            "folder of images"
        )
    with open_source(address, labels=recipe.gate.labels) as source:
        heads = _heads_with_truth(source, recipe)
        chosen = _spread(source.num_frames, recipe.gate.max_images)
        samples: list[Sample] = []
        with steps.step(_STEP):
            for frame in _first(source, max(chosen, default=-1) + 1):
                if frame.index in chosen:
                    image = frame.image if form.frame_color == "rgb" else frame.image[..., ::-1]
                    truth = {} if frame.truth is None else dict.fromkeys(heads, frame.truth)
                    samples.append(
                        Sample(
                            name=frame.name,
                            pixels=resized(np.ascontiguousarray(image), form.size),
                            labels=truth,
                        )
                    )
    if not samples:
        raise SourceError(f"{address} gives no frame, at least one was expected; name another source")
    return samples


def _heads_with_truth(source: Source, recipe: SegmentationRecipe) -> list[str]:
    """The heads that the ground truth of a source is meant for: those with its classes, or else the first."""
    if source.truth_classes is None:
        return [recipe.head[0].name]
    return [
        head.name
        for head in recipe.head
        if tuple(info.name for info in class_infos(head.classes)) == source.truth_classes
    ]


def _spread(count: int | None, limit: int) -> set[int]:
    """Indices of at most `limit` frames, evenly spread; the first ones where their number is unknown."""
    return set(range(limit) if count is None else evenly_spread(count, limit))


def _first(source: Source, count: int) -> Iterator[Frame]:
    for frame in source:
        if frame.index >= count:
            return
        yield frame
        if frame.index + 1 == count:
            return
