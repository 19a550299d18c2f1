"""What `pixelrt generate` makes: from its options to a strategy or a source, and to images as they come."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelrt.errors import InputError, SourceError
from pixelrt.generation import (
    Conditional,
    Drawn,
    Generated,
    Generator,
    Grid,
    Interpolate,
    Labels,
    Latents,
    Random,
    Strategy,
)
from pixelrt.generation.drawing import check_seed, check_truncation, draw_latents
from pixelrt.manifest import GenerationManifest
from pixelrt.metrics import foreign_ids
from pixelrt.video.sources import DEFAULT_FPS, Frame, Mask, MaskSource, Source, open_masks, open_source

Bytes = NDArray[np.uint8]

DEFAULT_COUNT = 16
DEFAULT_COLUMNS = 8
_DEFAULT_STEPS = 30
_OF_WAYS = {"steps": "interpolate", "mode": "interpolate", "axes": "grid", "span": "grid"}
"""Options that another one brings along."""
_WAYS = ("labels", "interpolate", "grid", "latents")


@dataclass(frozen=True, slots=True, eq=False)
class Made:
    """Some images as they were made."""

    generated: Generated
    names: tuple[str, ...] = ()
    """Of each, where a source has names."""
    given: tuple[Bytes, ...] = ()
    """The mask uint8[H, W] or image uint8[H, W, 3] of each, where they came from a source."""


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """Images to be made."""

    made: Iterable[Made]
    """Lazily."""
    total: int | None
    """How many images there will be; None where nobody knows."""


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

    def _limited(self, number: int | None) -> int | None:
        if self.limit is None:
            return number
        return self.limit if number is None else min(number, self.limit)


# --- checks before anything is opened


def check_options(arguments: argparse.Namespace, manifest: GenerationManifest) -> None:
    """Refuse options that do not fit the generator or each other.

    Raises:
        InputError: Saying which, and what to do.
    """
    check_seed(arguments.seed or 0)
    check_truncation(arguments.truncation)
    _check_company(arguments)
    _check_takes(arguments, manifest)
    _check_labels(arguments, manifest)


def _check_company(arguments: argparse.Namespace) -> None:
    for name, brought_by in _OF_WAYS.items():
        if getattr(arguments, name) is not None and not getattr(arguments, brought_by):
            raise InputError(
                f"--{name} belongs to --{brought_by}, which was not given; add it, or leave it out"
            )
    if arguments.limit is not None and arguments.mask is None and arguments.image is None:
        raise InputError("--limit is for --mask and --image; --count N makes N images")
    way = next((name for name in _WAYS if getattr(arguments, name)), None)
    if way is not None:
        _check_way(arguments, way)


def _check_way(arguments: argparse.Namespace, way: str) -> None:
    if arguments.count is not None:
        instead = {
            "labels": "--columns C makes C for each label",
            "interpolate": "--steps N makes N images",
            "grid": "its rows and columns are the number",
            "latents": "each latent makes an image",
        }[way]
        raise InputError(f"--count does not go with --{way}: {instead}; leave --count out")
    if arguments.truncation is not None:
        raise InputError(f"--truncation is for random latents, and --{way} was given; leave one out")
    if way == "interpolate" and arguments.seed is not None:
        raise InputError("--seed does not go with --interpolate, whose ends are seeds; leave --seed out")


def _check_takes(arguments: argparse.Namespace, manifest: GenerationManifest) -> None:
    takes = [name for name in ("latent", "label", "mask", "image") if getattr(manifest, name) is not None] + [
        noise.name for noise in manifest.noise
    ]
    needs = {
        "label": "label",
        "labels": "label",
        "latents": "latent",
        "interpolate": "latent",
        "grid": "latent",
        "truncation": "latent",
        "mask": "mask",
        "image": "image",
    }
    for option, wanted in needs.items():
        if getattr(arguments, option) not in (None, False, []) and wanted not in takes:
            article = "an" if wanted == "image" else "a"
            raise InputError(
                f"--{option} is for generators that take {article} {wanted}, and {manifest.name} takes "
                f"{', '.join(takes)}; leave it out"
            )
    for name, article in (("mask", "a"), ("image", "an")):
        if name in takes and getattr(arguments, name) is None:
            raise InputError(
                f"{manifest.name} works on {article} {name}, and none was given; add --{name} SOURCE"
            )
    if manifest.image is not None and manifest.image.channels != 3:
        raise InputError(
            f"{manifest.name} takes images of {manifest.image.channels} channels, and files and cameras give "
            "3 (RGB); run it from Python: pixelrt.load(...)"
        )


def _check_labels(arguments: argparse.Namespace, manifest: GenerationManifest) -> None:
    if manifest.label is None:
        return
    if arguments.labels and arguments.label:
        raise InputError("--labels shows all labels, and --label names one; leave one of them out")
    names = manifest.label.names
    for way in ("interpolate", "grid", "latents"):
        if getattr(arguments, way) and not arguments.label:
            raise InputError(
                f"{manifest.name} makes images of a class; with --{way} add --label L, L one of "
                f"{', '.join(names)}"
            )
    if (arguments.interpolate or arguments.grid) and len(arguments.label) > 1:
        way = "interpolate" if arguments.interpolate else "grid"
        raise InputError(f"--{way} has one label for all images, and {len(arguments.label)} were given")


# --- sources


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
        _check_film(arguments, inputs)
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


def _check_film(arguments: argparse.Namespace, inputs: Inputs) -> None:
    if not inputs.sources or not inputs.is_film:
        return
    for option in ("count", *_WAYS):
        if getattr(arguments, option):
            raise InputError(
                f"--{option} is for one mask or image, and {inputs.names[0]} has more: each makes one image; "
                f"leave --{option} out, or take the first with --limit 1"
            )
    if len(arguments.label) > 1:
        raise InputError(f"frames of a source have one label, and {len(arguments.label)} were given")
    if inputs.masks is not None and inputs.images is not None and inputs.images.num_frames != 1:
        raise InputError(
            f"masks come one after the other with one image for all; {inputs.images.name} has more"
        )


# --- images


def making(arguments: argparse.Namespace, generator: Generator, inputs: Inputs) -> Plan:
    """The images that the options ask for, made as they are taken.

    Raises:
        InputError: If the options do not fit the generator, or latents cannot be read.
    """
    if inputs.sources and inputs.is_film:
        return Plan(_of_frames(arguments, generator, inputs), inputs.total)
    manifest = generator.bundle.generation
    strategy = _strategy(arguments, manifest)
    asked = arguments.count or (1 if inputs.sources else DEFAULT_COUNT)
    total = strategy.count(manifest) or asked
    return Plan(_of_strategy(generator, strategy, total, inputs), total)


def _strategy(arguments: argparse.Namespace, manifest: GenerationManifest) -> Strategy:
    seed, labels = arguments.seed or 0, arguments.label
    label = labels[0] if labels else None
    if arguments.labels:
        return Labels(arguments.columns or DEFAULT_COLUMNS, seed)
    if arguments.interpolate:
        first, last = arguments.interpolate
        return Interpolate(
            first, last, arguments.steps or _DEFAULT_STEPS, arguments.mode or "slerp", label=label
        )
    if arguments.grid:
        rows, columns = arguments.grid
        axes = tuple(arguments.axes or (0, 1))
        span = 2.0 if arguments.span is None else arguments.span
        return Grid(rows, columns, axes=(axes[0], axes[1]), span=span, seed=arguments.seed, label=label)
    if arguments.latents is not None:
        given = label if len(labels) == 1 else labels or None
        return Latents(read_latents(Path(arguments.latents)), given, seed)
    if labels:
        return Conditional(tuple(labels), seed, arguments.truncation)
    return Random(seed, arguments.truncation)


def read_latents(file: Path) -> NDArray[Any]:
    """Latents of a file of NumPy, which runs no code.

    Raises:
        InputError: If there are none.
    """
    suffix = file.suffix.lower()
    if suffix not in (".npy", ".npz"):
        raise InputError(f"{file} ends in {suffix or 'nothing'}, expected latents as .npy or .npz")
    try:
        found = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as problem:
        reason = getattr(problem, "strerror", None) or problem
        raise InputError(
            f"{file} cannot be read ({reason}); expected latents as NumPy saves them"
        ) from problem
    if isinstance(found, np.ndarray):
        return found
    with found:
        if "latents" not in found.files:
            raise InputError(
                f"{file} holds {', '.join(found.files) or 'nothing'}, expected an array `latents`, as --out "
                "data.npz writes it"
            )
        array: NDArray[Any] = found["latents"]
        return array


def _of_strategy(generator: Generator, strategy: Strategy, total: int, inputs: Inputs) -> Iterator[Made]:
    """In parts that fill the network and all slots."""
    fixed = {name: frames.value for name, frames in _single(generator, inputs).items()}
    given = fixed.get("mask", fixed.get("image"))
    name = inputs.names[0] if inputs.names else ""
    largest = generator.largest_batch * generator.slots
    for start in range(0, total, largest):
        places = range(start, min(start + largest, total))
        made = generator.sample(len(places), strategy=_Part(strategy, places), **fixed)
        names = (name,) if given is not None and total == 1 else ()
        yield Made(made, names, () if given is None else (given,) * len(places))


@dataclass(frozen=True, slots=True)
class _Part:
    """Some samples of a strategy."""

    strategy: Strategy
    places: range

    def count(self, manifest: GenerationManifest) -> int | None:
        """See `Strategy.count`."""
        return len(self.places)

    @property
    def columns(self) -> int | None:
        """See `Strategy.columns`."""
        return self.strategy.columns

    @property
    def decides(self) -> frozenset[str]:
        """See `Strategy.decides`."""
        return self.strategy.decides

    def draw(self, manifest: GenerationManifest, indices: range) -> Drawn:
        """See `Strategy.draw`."""
        return self.strategy.draw(manifest, self.places[indices.start : indices.stop])


@dataclass(frozen=True, slots=True, eq=False)
class _Given:
    """A mask or an image of a source."""

    name: str
    value: Bytes


def _single(generator: Generator, inputs: Inputs) -> dict[str, _Given]:
    """The one frame of each source."""
    return {name: next(iter(frames)) for name, frames in _frames(generator, inputs).items()}


def _frames(generator: Generator, inputs: Inputs) -> dict[str, Iterator[_Given]]:
    frames: dict[str, Iterator[_Given]] = {}
    if inputs.masks is not None:
        number = len(generator.classes)
        frames["mask"] = (_checked_mask(mask, number) for mask in inputs.masks)
    if inputs.images is not None:
        frames["image"] = (_image_of(frame) for frame in inputs.images)
    return {name: itertools.islice(each, inputs.limit) for name, each in frames.items()}


def _checked_mask(mask: Mask, number: int) -> _Given:
    if strangers := foreign_ids(mask.ids, number):
        raise SourceError(
            f"the mask {mask.name} holds the ids {', '.join(map(str, strangers))}, and this generator has "
            f"{number} classes (0 to {number - 1}, 255 for none); give masks of its classes"
        )
    return _Given(mask.name, mask.ids)


def _image_of(frame: Frame) -> _Given:
    return _Given(frame.name, frame.image)


def _of_frames(arguments: argparse.Namespace, generator: Generator, inputs: Inputs) -> Iterator[Made]:
    """One image for each frame, as they come."""
    frames = _frames(generator, inputs)
    main = frames.pop("mask", None) or frames.pop("image")
    others: dict[str, Any] = {name: next(rest).value for name, rest in frames.items()}
    others |= _same_for_all(arguments, generator.bundle.generation)
    waiting: list[_Given] = []

    def noted() -> Iterator[Bytes]:
        for each in main:
            waiting.append(each)
            yield each.value

    for made in generator.stream(noted(), seed=arguments.seed or 0, **others):
        given = waiting.pop(0)
        yield Made(made, (given.name,), (given.value,))


def _same_for_all(arguments: argparse.Namespace, manifest: GenerationManifest) -> Mapping[str, Any]:
    """Label and truncated latent of a film."""
    same: dict[str, Any] = {"label": arguments.label[0]} if arguments.label else {}
    if manifest.label is not None and not arguments.label:
        raise InputError(f"frames of a source have one label; add --label, one of {manifest.label.names}")
    if arguments.truncation is not None and manifest.latent is not None:
        drawn = draw_latents(manifest.latent, arguments.seed or 0, [0], arguments.truncation)
        same["latent"] = drawn[0]
    return same
