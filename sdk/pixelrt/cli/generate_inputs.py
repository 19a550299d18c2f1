"""Masks and images for `pixelrt generate`: opened, checked, one after the other."""

from __future__ import annotations

import argparse
import contextlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pixelrt.cli.generate_options import WAYS
from pixelrt.errors import InputError, SourceError
from pixelrt.generation.values import check_mask
from pixelrt.manifest import GenerationManifest, MaskInfo
from pixelrt.video.sources import DEFAULT_FPS, Frame, Mask, MaskSource, Source, open_masks, open_source

Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class Given:
    """A mask or an image of a source."""

    name: str
    """Unlike every other name of the source; a file name without its suffix."""
    value: Bytes
    """uint8[H, W] class ids, uint8[H, W, 3] RGB or uint8[H, W, 1] grey."""


@dataclass(slots=True, eq=False)
class Inputs:
    """Opened sources."""

    masks: MaskSource | None = None
    images: Source | None = None
    limit: int | None = None

    @property
    def sources(self) -> list[MaskSource | Source]:
        """Those that there are."""
        return [source for source in (self.masks, self.images) if source is not None]

    @property
    def names(self) -> tuple[str, ...]:
        """What they are called."""
        return tuple(source.name for source in self.sources)

    @property
    def total(self) -> int | None:
        """How many images come of them; None where nobody knows, 1 without a source."""
        numbers = [self._limited(source.num_frames) for source in self.sources]
        if None in numbers:
            return None
        return max((number for number in numbers if number is not None), default=1)

    @property
    def is_film(self) -> bool:
        """Whether images are made one for each frame, and not many of what there is one of."""
        return self.total != 1

    @property
    def fps(self) -> float | None:
        """Frames a second of what comes one after the other."""
        return next((source.fps for source in self.sources if source.num_frames != 1), None)

    def frames(self, manifest: GenerationManifest) -> dict[str, Iterator[Given]]:
        """What each source gives, by the name of the input, as the generator takes it.

        Raises:
            SourceError: While they are taken, if one cannot be read or used.
        """
        frames: dict[str, Iterator[Given]] = {}
        if self.masks is not None:
            assert manifest.mask is not None
            info = manifest.mask
            frames["mask"] = (_checked_mask(mask, info) for mask in self.masks)
        if self.images is not None:
            assert manifest.image is not None
            take = _grey if manifest.image.channels == 1 else _coloured
            frames["image"] = (take(frame) for frame in self.images)
        return {name: itertools.islice(each, self.limit) for name, each in frames.items()}

    def _limited(self, number: int | None) -> int | None:
        if self.limit is None:
            return number
        return self.limit if number is None else min(number, self.limit)


def first_of(frames: Iterator[Given]) -> Given:
    """The first mask or image.

    Raises:
        SourceError: If there is none, or it cannot be read or used.
    """
    first = next(frames, None)
    if first is None:
        raise SourceError("a source of masks or images ended before its first one; look at it")
    return first


@contextlib.contextmanager
def opened_inputs(arguments: argparse.Namespace, manifest: GenerationManifest) -> Iterator[Inputs]:
    """The sources of the options, closed in the end.

    Raises:
        InputError: If they do not fit the generator, each other or the other options.
        SourceError: If one cannot be opened.
    """
    fps = DEFAULT_FPS if arguments.fps is None else arguments.fps
    with contextlib.ExitStack() as opened:
        inputs = Inputs(limit=arguments.limit)
        if arguments.mask is not None:
            inputs.masks = opened.enter_context(open_masks(arguments.mask, fps=fps))
            _check_mask_classes(inputs.masks, manifest)
        if arguments.image is not None:
            inputs.images = opened.enter_context(open_source(arguments.image, fps=fps))
        if inputs.sources and inputs.is_film:
            _check_film(arguments, manifest, inputs)
        yield inputs


def _check_mask_classes(masks: MaskSource, manifest: GenerationManifest) -> None:
    assert manifest.mask is not None
    mine = tuple(info.name for info in manifest.mask.classes)
    theirs = masks.truth_classes
    if theirs is not None and theirs != mine:
        raise InputError(
            f"{masks.name} has masks of the classes {', '.join(theirs)}; {manifest.name} paints "
            f"{', '.join(mine)}: give masks of those"
        )


def _check_film(arguments: argparse.Namespace, manifest: GenerationManifest, inputs: Inputs) -> None:
    for option in ("count", *WAYS):
        if getattr(arguments, option):
            raise InputError(
                f"--{option} is for one mask or image, and {inputs.names[0]} has more: each makes one image; "
                f"leave --{option} out, or take the first with --limit 1"
            )
    if manifest.label is not None and len(arguments.label) != 1:
        came = "none was" if not arguments.label else f"{len(arguments.label)} were"
        raise InputError(
            f"images of a source have one label for all, and {came} given; give one --label L, L one of "
            f"{', '.join(manifest.label.names)}"
        )
    if inputs.masks is not None and inputs.images is not None and inputs.images.num_frames != 1:
        raise InputError(
            f"masks come one after the other with one image for all, and {inputs.images.name} has more; give "
            "--image a single file"
        )


def _checked_mask(mask: Mask, info: MaskInfo) -> Given:
    try:
        check_mask(mask.ids, info, mask.name)
    except InputError as problem:
        raise SourceError(str(problem)) from problem
    return Given(mask.name, mask.ids)


def _coloured(frame: Frame) -> Given:
    return Given(frame.name, frame.image)


def _grey(frame: Frame) -> Given:
    """One channel of three that are the same."""
    grey = frame.image[..., :1]
    if (frame.image != grey).any():
        raise SourceError(
            f"the image {frame.name} is in colour, and this generator takes grey ones; convert it to grey"
        )
    return Given(frame.name, np.ascontiguousarray(grey))
