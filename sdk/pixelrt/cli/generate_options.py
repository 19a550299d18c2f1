"""The options of `pixelrt generate`: whether they fit, and the strategy that they name."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelrt.errors import InputError
from pixelrt.generation import Conditional, Grid, Interpolate, Labels, Latents, Random, Strategy
from pixelrt.generation.drawing import check_seed, check_truncation
from pixelrt.generation.interpolating import Mode
from pixelrt.generation.values import label_ids, with_article
from pixelrt.manifest import GenerationManifest

WAYS = ("labels", "interpolate", "grid", "latents")
"""Options of which each says alone what is drawn."""
_OF_WAYS = {"steps": "interpolate", "mode": "interpolate", "axes": "grid", "span": "grid"}
"""Options that another one brings along."""
_NEEDS = {
    "label": "label",
    "labels": "label",
    "latents": "latent",
    "interpolate": "latent",
    "grid": "latent",
    "truncation": "latent",
    "mask": "mask",
    "image": "image",
}
"""Options, and the input that a generator must have for them."""
_DEFAULT_COLUMNS = 8
_DEFAULT_STEPS = 30
_DEFAULT_SPAN = 2.0


def check_options(arguments: argparse.Namespace, manifest: GenerationManifest) -> None:
    """Refuse options that do not fit the generator or each other, before anything is opened.

    Raises:
        InputError: Saying which, and what to do.
    """
    check_seed(arguments.seed or 0)
    check_truncation(arguments.truncation)
    _check_company(arguments)
    _check_needs(arguments, manifest)
    _check_inputs(arguments, manifest)
    _check_labels(arguments, manifest)


def strategy_of(arguments: argparse.Namespace, manifest: GenerationManifest) -> Strategy:
    """The strategy that the options name.

    Raises:
        InputError: If it does not fit the generator, or latents cannot be read.
    """
    strategy = _strategy(arguments)
    strategy.count(manifest)  # found out here, and not after an engine was built
    strategy.draw(manifest, range(1))
    return strategy


def draws_something(manifest: GenerationManifest) -> bool:
    """Whether a seed makes a difference."""
    return bool(manifest.latent or manifest.label or manifest.noise)


def takes_of(manifest: GenerationManifest) -> list[str]:
    """Names of a generator's inputs."""
    named = [name for name in ("latent", "label", "mask", "image") if getattr(manifest, name) is not None]
    return [*named, *(noise.name for noise in manifest.noise)]


def _check_company(arguments: argparse.Namespace) -> None:
    for name, brought_by in _OF_WAYS.items():
        if getattr(arguments, name) is not None and not getattr(arguments, brought_by):
            raise InputError(
                f"--{name} belongs to --{brought_by}, which was not given; add it, or leave it out"
            )
    if arguments.limit is not None and arguments.mask is None and arguments.image is None:
        raise InputError("--limit is for --mask and --image; --count N makes N images")
    way = next((name for name in WAYS if getattr(arguments, name)), None)
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


def _check_needs(arguments: argparse.Namespace, manifest: GenerationManifest) -> None:
    takes = takes_of(manifest)
    for option, wanted in _NEEDS.items():
        if getattr(arguments, option) not in (None, False, []) and wanted not in takes:
            raise InputError(
                f"--{option} is for generators that take {with_article(wanted)}, and {manifest.name} takes "
                f"{', '.join(takes)}; leave it out"
            )
    if arguments.seed is not None and not draws_something(manifest):
        raise InputError(
            f"--seed is for what is random, and {manifest.name} takes {', '.join(takes)} alone; leave it out"
        )


def _check_inputs(arguments: argparse.Namespace, manifest: GenerationManifest) -> None:
    for name in ("mask", "image"):
        if getattr(manifest, name) is not None and getattr(arguments, name) is None:
            raise InputError(
                f"{manifest.name} works on {with_article(name)}, and none was given; add --{name} SOURCE"
            )
    if manifest.image is not None and manifest.image.channels not in (1, 3):
        raise InputError(
            f"{manifest.name} takes images of {manifest.image.channels} channels, and files and cameras give "
            "1 (grey) or 3 (RGB); run it from Python: pixelrt.load(...)"
        )


def _check_labels(arguments: argparse.Namespace, manifest: GenerationManifest) -> None:
    if manifest.label is None:
        return
    if arguments.labels and arguments.label:
        raise InputError("--labels shows all labels, and --label names one; leave one of them out")
    if arguments.label:
        label_ids(arguments.label, manifest.label)
    for way in ("interpolate", "grid", "latents"):
        if getattr(arguments, way) and not arguments.label:
            raise InputError(
                f"{manifest.name} makes images of a class; with --{way} add --label L, L one of "
                f"{', '.join(manifest.label.names)}"
            )
    if (arguments.interpolate or arguments.grid) and len(arguments.label) > 1:
        way = "interpolate" if arguments.interpolate else "grid"
        raise InputError(f"--{way} has one label for all images, and {len(arguments.label)} were given")


def _strategy(arguments: argparse.Namespace) -> Strategy:
    seed, labels = arguments.seed or 0, tuple(arguments.label)
    label = labels[0] if labels else None
    if arguments.labels:
        return Labels(arguments.columns or _DEFAULT_COLUMNS, seed)
    if arguments.interpolate:
        first, last = arguments.interpolate
        steps: int = arguments.steps or _DEFAULT_STEPS
        mode: Mode = arguments.mode or "slerp"
        return Interpolate(first, last, steps, mode, label=label)
    if arguments.grid:
        (rows, columns), (down, across) = arguments.grid, arguments.axes or (0, 1)
        span = _DEFAULT_SPAN if arguments.span is None else arguments.span
        return Grid(rows, columns, axes=(down, across), span=span, seed=arguments.seed, label=label)
    if arguments.latents is not None:
        given = label if len(labels) == 1 else labels or None
        return Latents(read_latents(Path(arguments.latents)), given, seed)
    if labels:
        return Conditional(labels, seed, arguments.truncation)
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
        with file.open("rb") as stream:  # NumPy leaves open what it cannot read
            found = np.load(stream, allow_pickle=False)
            return found if isinstance(found, np.ndarray) else _latents_in(found, file)
    except InputError:
        raise
    except Exception as problem:  # of a damaged file NumPy raises whatever zlib, zipfile and tokenize do
        reason = getattr(problem, "strerror", None) or problem
        raise InputError(
            f"{file} cannot be read ({reason}); expected latents as NumPy saves them"
        ) from problem


def _latents_in(archive: Any, file: Path) -> NDArray[Any]:
    with archive:
        if "latents" not in archive.files:
            raise InputError(
                f"{file} holds {', '.join(archive.files) or 'nothing'}, expected an array `latents`, as "
                "--out data.npz writes it"
            )
        array: NDArray[Any] = archive["latents"]
        return array
