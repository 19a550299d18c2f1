"""The images of a segmentation network: from a folder, from any source of the runtime, or from arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pixelrt.errors import InputError, SourceError
from pixelrt.video.sources import Source, open_source
from pixelrt_export.gate.segmentation import Sample
from pixelrt_export.images import evenly_spread, find_images, labels_beside, read_frame, read_label, resized
from pixelrt_export.palettes import class_infos
from pixelrt_export.progress import Steps
from pixelrt_export.recipe import SegmentationRecipe
from pixelrt_export.samples.common import (
    Arrays,
    check_channels,
    chosen,
    found_text,
    in_order,
    is_folder,
    of_recipe,
    spread,
)
from pixelrt_export.samples.needs import can_do_without, missing

_STEP = "reading images"
_ASPECT_TOLERANCE = 0.02


def samples_for(recipe: SegmentationRecipe, arrays: Arrays | None, steps: Steps) -> list[Sample]:
    """The images that a recipe names, or those that came as arrays; none where none are needed.

    Raises:
        ExportError: If there are none, and the gate or the precision needs some.
        SourceError: As `read_samples`.
        InputError: As `samples_of`.
    """
    if arrays is not None and len(arrays):
        return samples_of(arrays, recipe)
    if arrays is None and recipe.gate.images is not None:
        return read_samples(recipe, steps)
    if can_do_without(recipe):
        return []
    raise missing("images", recipe)


def read_samples(recipe: SegmentationRecipe, steps: Steps) -> list[Sample]:
    """Read the images and labels that a recipe names, at most as many as it wants, spread over the whole.

    A folder may hold images of any number of channels. With several heads, the folder of labels holds a
    folder per head, called like it; label files beside them belong to the first head. Any other source is one
    that `pixelrt run` opens; its ground truth counts where its classes are those of the head.

    Raises:
        SourceError: If images or labels are missing, unreadable or do not fit; the file is named.
    """
    images = recipe.gate.images or ""
    if is_folder(images):
        return _from_folder(Path(images), recipe, steps)
    return _from_source(images, recipe, steps)


def samples_of(frames: Arrays, recipe: SegmentationRecipe) -> list[Sample]:
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
            raise InputError(
                f"images[{index}] is {found_text(frame)}, a frame uint8[H, W, {channels}] was expected"
            )
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
    check_channels(address, form.channels)
    with of_recipe("gate.images"):
        opened = open_source(address, labels=recipe.gate.labels)
    with opened as source:
        heads = _heads_with_truth(source, recipe)
        indices = spread(source.num_frames, recipe.gate.max_images)
        samples: list[Sample] = []
        with steps.step(_STEP):
            for frame in chosen(source, indices):
                truth = {} if frame.truth is None else dict.fromkeys(heads, frame.truth)
                samples.append(
                    Sample(
                        name=frame.name,
                        pixels=resized(in_order(frame.image, form.frame_color), form.size),
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
