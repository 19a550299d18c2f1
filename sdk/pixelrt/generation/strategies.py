"""What to draw, as values: a strategy says which latents and labels a row of samples has.

generator.sample(16, strategy=Random(seed=7, truncation=0.8))
generator.sample(strategy=Interpolate(3, 4, steps=60))
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from pixelrt.errors import InputError
from pixelrt.frames import is_whole
from pixelrt.generation.drawing import (
    Indices,
    check_seed,
    check_truncation,
    draw_labels,
    draw_latents,
)
from pixelrt.generation.interpolating import Mode, lerp, slerp
from pixelrt.generation.values import Ids, Label, label_ids, latent_array
from pixelrt.manifest import GenerationManifest, LabelInfo, LatentInfo

Floats = NDArray[np.float32]

_NOTHING: frozenset[str] = frozenset()
_LATENT = frozenset({"latent"})


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Drawn:
    """What a strategy says about some samples."""

    seed: int
    """For the noise inside of the network, and where latents or labels come from it, theirs."""
    noise_indices: Indices
    """Which of the seed's noise each sample gets."""
    latents: Floats | None = None
    """float32[N, *size]; None where it says nothing about them."""
    labels: Ids | None = None
    """int32[N]; None likewise."""
    from_seed: frozenset[str] = frozenset({"latent", "label"})
    """Which of `latent` and `label` were drawn from the seed, and not chosen."""


class Strategy(Protocol):
    """What `Generator.sample` takes; your own may be given too."""

    def count(self, manifest: GenerationManifest) -> int | None:
        """How many samples it makes with a generator; None for as many as are asked for.

        Raises:
            InputError: If it does not fit the generator.
        """
        ...

    @property
    def columns(self) -> int | None:
        """How many samples make a row of a sheet; None for no matter."""
        ...

    @property
    def decides(self) -> frozenset[str]:
        """The inputs that it alone decides, `latent` and `label`: a generator must have them."""
        ...

    def draw(self, manifest: GenerationManifest, indices: range) -> Drawn:
        """What the samples of these indices are made from.

        Raises:
            InputError: If it does not fit the generator.
        """
        ...


class _OfAnyNumber:
    """A strategy that goes on for ever."""

    __slots__ = ()

    def count(self, manifest: GenerationManifest) -> int | None:
        """See `Strategy.count`."""
        return None

    @property
    def columns(self) -> int | None:
        """See `Strategy.columns`."""
        return None


@dataclass(frozen=True, slots=True)
class Random(_OfAnyNumber):
    """Latents as the network was trained on them, and labels each as likely as the others.

    Sample `i` depends on the seed and `i` alone: `sample(4)` is the beginning of `sample(16)`.
    """

    seed: int = 0
    truncation: float | None = None
    """Values of a greater magnitude are drawn again: typical images, less varied (the truncation trick of A.
    Brock, J. Donahue, K. Simonyan: Large Scale GAN Training for High Fidelity Natural Image Synthesis, 2019).
    """

    def __post_init__(self) -> None:
        check_seed(self.seed)
        check_truncation(self.truncation)

    @property
    def decides(self) -> frozenset[str]:
        """See `Strategy.decides`."""
        return frozenset()

    def draw(self, manifest: GenerationManifest, indices: range) -> Drawn:
        """See `Strategy.draw`."""
        return Drawn(
            seed=self.seed,
            noise_indices=indices,
            latents=_latents(manifest.latent, self.seed, indices, self.truncation),
            labels=draw_labels(manifest.label, self.seed, indices) if manifest.label else None,
        )


@dataclass(frozen=True, slots=True)
class Conditional(_OfAnyNumber):
    """Random latents of one class, or of several in turn."""

    label: Label | Sequence[Label]
    """A name or an id; of a sequence, sample `i` has number `i` modulo its length."""
    seed: int = 0
    truncation: float | None = None
    """See `Random.truncation`."""

    def __post_init__(self) -> None:
        check_seed(self.seed)
        check_truncation(self.truncation)
        if isinstance(self.label, list) or (isinstance(self.label, np.ndarray) and self.label.ndim):
            object.__setattr__(self, "label", tuple(self.label))  # so that the value stays what it is
        if isinstance(self.label, tuple) and not self.label:
            raise InputError("label is empty, expected a name or an id, or one or more of them")

    @property
    def decides(self) -> frozenset[str]:
        """See `Strategy.decides`."""
        return frozenset({"label"})

    def draw(self, manifest: GenerationManifest, indices: range) -> Drawn:
        """See `Strategy.draw`."""
        cycle = label_ids(self.label, _label_info(manifest))
        return Drawn(
            seed=self.seed,
            noise_indices=indices,
            latents=_latents(manifest.latent, self.seed, indices, self.truncation),
            labels=cycle[np.asarray(indices, np.intp) % len(cycle)],
            from_seed=_LATENT,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Interpolate:
    """A walk from one latent to another, both included; label and noise stay the same."""

    a: int | NDArray[Any]
    """A seed, which stands for its first latent, or a latent float32[*size]."""
    b: int | NDArray[Any]
    steps: int = 30
    """Number of samples, at least 2."""
    mode: Mode = "slerp"
    """`slerp` keeps the norm, as latents of a normal distribution need it; `lerp` is the straight line. See
    `pixelrt.generation.interpolating`."""
    label: Label | None = None
    """Of all samples, where the generator is conditional."""

    def __post_init__(self) -> None:
        _check_whole("steps", self.steps, 2)
        if self.mode not in get_args(Mode):
            raise InputError(f"mode is {self.mode!r}, expected one of {', '.join(get_args(Mode))}")
        for name, end in (("a", self.a), ("b", self.b)):
            _check_end(name, end)

    def count(self, manifest: GenerationManifest) -> int | None:
        """See `Strategy.count`."""
        return self.steps

    @property
    def columns(self) -> int | None:
        """See `Strategy.columns`."""
        return None

    @property
    def decides(self) -> frozenset[str]:
        """See `Strategy.decides`."""
        return frozenset({"latent"} if self.label is None else {"latent", "label"})

    def draw(self, manifest: GenerationManifest, indices: range) -> Drawn:
        """See `Strategy.draw`."""
        info = _latent_info(manifest)
        start, end = _end("a", self.a, info), _end("b", self.b, info)
        shares = np.asarray(indices, np.float64) / (self.steps - 1)
        between = slerp if self.mode == "slerp" else lerp
        seeds = [end for end in (self.a, self.b) if not isinstance(end, np.ndarray)]
        return Drawn(
            seed=next(iter(seeds), 0),
            noise_indices=[0] * len(indices),
            latents=between(start, end, shares),
            labels=_same_label(self.label, manifest, len(indices)),
            from_seed=_LATENT if seeds else _NOTHING,
        )


@dataclass(frozen=True, slots=True)
class Grid:
    """Two coordinates of a latent, each from -span to span: what do they mean?

    A single row or column stands at 0. Latents of a uniform distribution have values from -1 to 1: a larger
    span leaves what the network was trained on.
    """

    rows: int
    columns: int
    axes: tuple[int, int] = (0, 1)
    """The coordinate that changes from row to row, and the one that changes from column to column; positions
    in the latent, row by row where it has several axes."""
    span: float = 2.0
    seed: int | None = None
    """Whose first latent gives the other coordinates; None for zeros."""
    label: Label | None = None
    """Of all samples, where the generator is conditional."""

    def __post_init__(self) -> None:
        _check_whole("rows", self.rows, 1)
        _check_whole("columns", self.columns, 1)
        if self.seed is not None:
            check_seed(self.seed)
        number = isinstance(self.span, (int, float, np.integer, np.floating)) and not isinstance(
            self.span, bool
        )
        if not number or not 0 < self.span < np.inf:
            raise InputError(f"span is {self.span!r}, expected a number above 0")
        axes = self.axes if isinstance(self.axes, (tuple, list)) else ()
        if len(axes) != 2 or axes[0] == axes[1]:
            raise InputError(f"axes is {self.axes!r}, expected two different positions in the latent")
        for axis in axes:
            _check_whole("axes", axis, 0)
        object.__setattr__(self, "axes", tuple(axes))  # so that the value stays what it is

    def count(self, manifest: GenerationManifest) -> int | None:
        """See `Strategy.count`."""
        return self.rows * self.columns

    @property
    def decides(self) -> frozenset[str]:
        """See `Strategy.decides`."""
        return frozenset({"latent"} if self.label is None else {"latent", "label"})

    def draw(self, manifest: GenerationManifest, indices: range) -> Drawn:
        """See `Strategy.draw`."""
        info = _latent_info(manifest)
        length = int(np.prod(info.size))
        if max(self.axes) >= length:
            raise InputError(f"axes is {self.axes}, the latent has the coordinates 0 to {length - 1}")
        base = np.zeros((1, *info.size), np.float32)
        if self.seed is not None:
            base = draw_latents(info, self.seed, [0])
        latents = np.repeat(base.reshape(1, length), len(indices), axis=0)
        rows, columns = np.divmod(np.asarray(indices, np.intp), self.columns)
        latents[:, self.axes[0]] = _span(self.rows, self.span)[rows]
        latents[:, self.axes[1]] = _span(self.columns, self.span)[columns]
        return Drawn(
            seed=self.seed or 0,
            noise_indices=[0] * len(indices),
            latents=latents.reshape(len(indices), *info.size),
            labels=_same_label(self.label, manifest, len(indices)),
            from_seed=_NOTHING if self.seed is None else _LATENT,
        )


@dataclass(frozen=True, slots=True)
class Labels:
    """A row of samples for each label, all rows of the same latents."""

    columns: int
    seed: int = 0

    def __post_init__(self) -> None:
        _check_whole("columns", self.columns, 1)
        check_seed(self.seed)

    def count(self, manifest: GenerationManifest) -> int | None:
        """A row for each label."""
        return len(_label_info(manifest).names) * self.columns

    @property
    def decides(self) -> frozenset[str]:
        """See `Strategy.decides`."""
        return frozenset({"label"})

    def draw(self, manifest: GenerationManifest, indices: range) -> Drawn:
        """See `Strategy.draw`."""
        rows, columns = np.divmod(np.asarray(indices, np.intp), self.columns)
        places = columns.tolist()
        return Drawn(
            seed=self.seed,
            noise_indices=places,
            latents=_latents(manifest.latent, self.seed, places, None),
            labels=rows.astype(np.int32),
            from_seed=_LATENT,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Latents:
    """Latents of your own."""

    array: NDArray[Any]
    """float32[N, *size], or one, float32[*size]."""
    labels: Label | Sequence[Label] | None = None
    """One for all, or one for each, where the generator is conditional."""
    seed: int = 0
    """Of the noise inside of the network, where there is any."""

    def __post_init__(self) -> None:
        check_seed(self.seed)

    def count(self, manifest: GenerationManifest) -> int | None:
        """As many as there are in the array."""
        info = _latent_info(manifest)
        return latent_array("latent", self.array, info.size).size // math.prod(info.size)

    @property
    def columns(self) -> int | None:
        """See `Strategy.columns`."""
        return None

    @property
    def decides(self) -> frozenset[str]:
        """See `Strategy.decides`."""
        return frozenset({"latent"} if self.labels is None else {"latent", "label"})

    def draw(self, manifest: GenerationManifest, indices: range) -> Drawn:
        """See `Strategy.draw`."""
        info, chosen = _latent_info(manifest), np.asarray(indices, np.intp)
        several = self._several(info)
        labels = None
        if self.labels is not None:
            labels = label_ids(self.labels, _label_info(manifest))
            labels = self._one_each(labels, len(several))[chosen]
        latents = latent_array("latent", several[chosen], info.size)
        return Drawn(
            seed=self.seed, noise_indices=indices, latents=latents, labels=labels, from_seed=_NOTHING
        )

    def _several(self, info: LatentInfo) -> NDArray[Any]:
        """[N, *size]; an array of that shape as it is: looking through all of it for each part takes long."""
        if isinstance(self.array, np.ndarray) and self.array.shape[1:] == info.size and len(self.array):
            return self.array
        return latent_array("latent", self.array, info.size).reshape(-1, *info.size)

    def _one_each(self, labels: Ids, count: int) -> Ids:
        if len(labels) not in (1, count):
            raise InputError(f"{len(labels)} labels came for {count} latents, expected one, or one for each")
        each: Ids = np.repeat(labels, count) if len(labels) == 1 else labels
        return each


def _latents(info: LatentInfo | None, seed: int, indices: Indices, truncation: float | None) -> Floats | None:
    if info is None and truncation is not None:
        raise InputError("truncation is for latents, this generator takes none; leave it out")
    return draw_latents(info, seed, indices, truncation) if info else None


def _latent_info(manifest: GenerationManifest) -> LatentInfo:
    assert manifest.latent is not None
    return manifest.latent


def _label_info(manifest: GenerationManifest) -> LabelInfo:
    assert manifest.label is not None
    return manifest.label


def _check_end(name: str, end: object) -> None:
    if not isinstance(end, np.ndarray) and not (is_whole(end) and end >= 0):  # type: ignore[operator]
        raise InputError(
            f"{name} is {textwrap.shorten(repr(end), 60)}, expected a seed (a whole number of at least 0) "
            "or a latent as an array: np.array(...)"
        )


def _end(name: str, end: int | NDArray[Any], info: LatentInfo) -> Floats:
    if not isinstance(end, np.ndarray):
        drawn: Floats = draw_latents(info, end, [0])[0]
        return drawn
    array = latent_array(name, end, info.size)
    if array.ndim > len(info.size):
        raise InputError(f"{name} holds {len(array)} latents, expected one: float32{list(info.size)}")
    return array


def _same_label(label: Label | None, manifest: GenerationManifest, count: int) -> Ids | None:
    if label is None:
        return None
    ids = label_ids(label, _label_info(manifest))
    if len(ids) != 1:
        raise InputError(f"label is {label!r}, expected one for all samples")
    return np.repeat(ids, count)


def _span(count: int, span: float) -> NDArray[np.float64]:
    return np.linspace(-span, span, count) if count > 1 else np.zeros(1)


def _check_whole(what: str, value: object, least: int) -> None:
    if not is_whole(value) or value < least:  # type: ignore[operator]
        raise InputError(f"{what} is {value!r}, expected a whole number of at least {least}")
