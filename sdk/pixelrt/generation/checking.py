"""Checks of strategies, one's own among them: before anything runs, and without a guess."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from pixelrt.errors import InputError
from pixelrt.generation.strategies import (
    Conditional,
    Drawn,
    Grid,
    Interpolate,
    Labels,
    Latents,
    Random,
    Strategy,
)
from pixelrt.generation.values import with_article
from pixelrt.manifest import GenerationManifest, LabelInfo, LatentInfo
from pixelrt.strict import type_of

_PARTS = ("count", "columns", "decides", "draw")
_OURS = frozenset({Random, Conditional, Interpolate, Grid, Labels, Latents})


def check_strategy(strategy: Strategy, takes: Sequence[str], given: Collection[str]) -> None:
    """Refuse what is no strategy, or does not fit the generator or the inputs given.

    Args:
        strategy: What came as one.
        takes: Names of the generator's inputs.
        given: Names of the inputs that are given.

    Raises:
        InputError: Saying what came and what was expected.
    """
    if not hasattr(strategy, "draw") or isinstance(strategy, type):
        raise InputError(f"strategy is {strategy!r}, expected one such as pixelrt.Random(seed=7)")
    kind = type(strategy).__name__
    if lacking := [part for part in _PARTS if not hasattr(strategy, part)]:
        raise InputError(
            f"strategy is a {kind} without {', '.join(lacking)}; pixelrt.generation.Strategy says what one "
            "must have"
        )
    for name in sorted(strategy.decides):
        if name not in takes:
            raise InputError(
                f"{kind} is for generators that take {with_article(name)}, this one takes {', '.join(takes)}"
            )
        if name in given:
            raise InputError(f"{kind} decides about the {name}, and {name}=... came too; leave one out")
    if "seed" in given:
        raise InputError("the seed of a sample stands in its strategy, as in strategy=pixelrt.Random(seed=7)")
    if "latent" in given and getattr(strategy, "truncation", None) is not None:
        raise InputError("truncation is for latents that are drawn, and latent=... came too; leave one out")


def check_drawn(strategy: Strategy, drawn: Drawn, number: int, manifest: GenerationManifest) -> None:
    """Refuse what a strategy of one's own drew if it is not for so many samples of this generator.

    PixelRT's own are left alone: they keep to it, and a look at all values is felt beside a small network.

    Raises:
        InputError: Saying what came and what was expected.
    """
    if type(strategy) in _OURS:
        return
    kind = type(strategy).__name__
    if not isinstance(drawn, Drawn):
        raise InputError(f"{kind}.draw gave {type_of(drawn)}, expected a pixelrt.generation.Drawn")
    if len(drawn.noise_indices) != number:
        raise InputError(
            f"{kind}.draw gave {len(drawn.noise_indices)} noise_indices for {number} samples, expected one "
            "for each"
        )
    if drawn.latents is not None and manifest.latent is not None:
        _check_latents(kind, drawn.latents, number, manifest.latent)
    if drawn.labels is not None and manifest.label is not None:
        _check_labels(kind, drawn.labels, number, manifest.label)


def _check_latents(kind: str, latents: object, number: int, info: LatentInfo) -> None:
    _check_array(f"{kind}.draw gave latents", latents, np.dtype(np.float32), (number, *info.size))
    if not np.logical_and.reduce(np.isfinite(latents), axis=None):  # type: ignore[call-overload]
        raise InputError(f"{kind}.draw gave latents that are not finite, expected finite ones")


def _check_labels(kind: str, labels: object, number: int, info: LabelInfo) -> None:
    _check_array(f"{kind}.draw gave labels", labels, np.dtype(np.int32), (number,))
    least, most = np.min(labels), np.max(labels)  # type: ignore[call-overload]
    if least < 0 or most >= len(info.names):
        raise InputError(
            f"{kind}.draw gave labels from {least} to {most}, expected ids from 0 to {len(info.names) - 1}: "
            f"{', '.join(info.names)}"
        )


def _check_array(what: str, array: object, dtype: np.dtype[np.generic], shape: tuple[int, ...]) -> None:
    if not isinstance(array, np.ndarray):
        raise InputError(f"{what} as {type_of(array)}, expected an array {dtype}{list(shape)}")
    if array.dtype != dtype or array.shape != shape:
        raise InputError(f"{what} {array.dtype}{list(array.shape)}, expected {dtype}{list(shape)}")
