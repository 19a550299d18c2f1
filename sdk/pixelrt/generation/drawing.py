"""Random numbers for generators: sample `i` of a seed depends on the seed and `i`, and on nothing else.

Sixteen samples begin with the four that four samples are, wherever they are drawn and in whatever order. The
bits are those of PCG64, seeded by `numpy.random.SeedSequence`, which NumPy promises not to change; all that
is made of them is made here, because NumPy makes no such promise for its distributions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelrt.errors import InputError
from pixelrt.manifest import LabelInfo, LatentInfo, NoiseInfo

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Indices = Sequence[int]

_LATENT, _LABEL, _NOISE = 0, 1, 2
_PROPOSE_UNIFORMLY_BELOW = math.sqrt(math.pi / 2)


def draw_latents(info: LatentInfo, seed: int, indices: Indices, truncation: float | None = None) -> Floats:
    """Latents of a seed.

    Args:
        info: Their size and distribution.
        seed: 0 or more; another one gives other latents.
        indices: Which samples.
        truncation: Values of a greater magnitude are drawn again (the truncation trick of A. Brock,
            J. Donahue, K. Simonyan: Large Scale GAN Training for High Fidelity Natural Image Synthesis,
            2019): the smaller, the more typical and the less varied are the images. None draws all.

    Returns:
        float32[N, *size].

    Raises:
        InputError: If the seed, an index or the truncation cannot be used.
    """
    check_truncation(truncation)
    streams, count = _streams((_LATENT,), seed, indices), math.prod(info.size)
    if info.distribution == "uniform":
        limit = 1.0 if truncation is None else min(1.0, float(truncation))
        return _together(info.size, streams, count, _uniform(limit))
    if truncation is None:
        return _together(info.size, streams, _even(count), _box_muller)
    return _each(info.size, streams, _truncated(float(truncation)))


def draw_noise(info: NoiseInfo, seed: int, indices: Indices) -> Floats:
    """Noise for one input of a network that is random inside; inputs of other names get other noise.

    Returns:
        float32[N, *size].

    Raises:
        InputError: If the seed or an index cannot be used.
    """
    streams, count = _streams((_NOISE, *info.name.encode()), seed, indices), math.prod(info.size)
    if info.distribution == "normal":
        return _together(info.size, streams, _even(count), _box_muller)
    return _together(info.size, streams, count, _unit)


def draw_labels(info: LabelInfo, seed: int, indices: Indices) -> NDArray[np.int32]:
    """Class ids, each as likely as the others, int32[N].

    Raises:
        InputError: If the seed or an index cannot be used.
    """
    drawn = [int(bits.random_raw()) % len(info.names) for bits in _streams((_LABEL,), seed, indices)]
    return np.array(drawn, np.int32)


def check_seed(seed: object) -> None:
    """Refuse what is no seed.

    Raises:
        InputError: If it is no whole number of at least 0.
    """
    if not _is_whole(seed) or seed < 0:  # type: ignore[operator]
        raise InputError(f"seed is {seed!r}, expected a whole number of at least 0")


def check_truncation(truncation: object) -> None:
    """Refuse what cannot limit latents.

    Raises:
        InputError: If it is neither None nor a finite number above 0.
    """
    if truncation is None:
        return
    number = isinstance(truncation, (int, float, np.integer, np.floating)) and not isinstance(
        truncation, bool
    )
    if not number or not 0 < truncation < math.inf:  # type: ignore[operator]
        raise InputError(
            f"truncation is {truncation!r}, expected a number above 0 (0.5 for typical images, 2 for nearly "
            "all), or None for none"
        )


def _is_whole(value: object) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _streams(purpose: tuple[int, ...], seed: int, indices: Indices) -> Iterable[np.random.PCG64]:
    """Independent bits for every sample and purpose."""
    check_seed(seed)
    for index in indices:
        if not _is_whole(index) or index < 0:
            raise InputError(f"index {index!r} of a sample: a whole number of at least 0 was expected")
    keys = ((int(index), *purpose) for index in indices)
    return (np.random.PCG64(np.random.SeedSequence(int(seed), spawn_key=key)) for key in keys)


def _each(
    size: tuple[int, ...], streams: Iterable[np.random.PCG64], draw: Callable[[Any, int], Any]
) -> Floats:
    """Samples one after the other, for what needs an unknown number of bits."""
    drawn = [draw(bits, math.prod(size)) for bits in streams]
    return np.stack(drawn).reshape(-1, *size) if drawn else np.empty((0, *size), np.float32)


def _together(
    size: tuple[int, ...],
    streams: Iterable[np.random.PCG64],
    words: int,
    draw: Callable[[NDArray[np.uint64], int], Any],
) -> Floats:
    """Samples at once, each from so many words of its own bits."""
    raw = [bits.random_raw(words) for bits in streams]
    if not raw:
        return np.empty((0, *size), np.float32)
    values: Floats = draw(np.stack(raw), math.prod(size)).astype(np.float32)
    return values.reshape(-1, *size)


def _doubles(bits: NDArray[np.uint64]) -> Doubles:
    """From 0 (included) to 1 (excluded), in steps of 2^-53."""
    fractions: Doubles = (bits >> np.uint64(11)) * np.float64(2.0**-53)
    return fractions


def _unit(bits: NDArray[np.uint64], count: int) -> Floats:
    """From 0 (included) to 1 (excluded), in steps of 2^-24: float32 holds them, so that none becomes 1."""
    return (bits >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)


def _uniform(limit: float) -> Callable[[NDArray[np.uint64], int], Floats]:
    """From -limit to limit. Drawing again what is beyond it leaves what is uniform between."""
    return lambda bits, count: _clipped((2 * _doubles(bits) - 1) * limit, limit)


def _box_muller(bits: NDArray[np.uint64], count: int) -> Doubles:
    """Two normal numbers from two uniform ones, along the last axis.

    G. Box, M. Muller: A Note on the Generation of Random Normal Deviates, 1958.

    Args:
        bits: uint64[..., 2 * ceil(count / 2)].
        count: How many are wanted.
    """
    uniform = _doubles(bits)
    pairs = bits.shape[-1] // 2
    radius = np.sqrt(-2 * np.log1p(-uniform[..., :pairs]))
    angle = 2 * np.pi * uniform[..., pairs:]
    drawn = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1)
    wanted: Doubles = drawn.reshape(*bits.shape[:-1], -1)[..., :count]
    return wanted


def _truncated(limit: float) -> Callable[[np.random.PCG64, int], Floats]:
    """Normal numbers between -limit and limit."""
    propose = _flat_proposals if limit < _PROPOSE_UNIFORMLY_BELOW else _normal_proposals
    return lambda bits, count: _clipped(_drawn_again(bits, count, limit, propose), limit)


def _even(count: int) -> int:
    return count + count % 2


def _drawn_again(
    bits: np.random.PCG64,
    count: int,
    limit: float,
    propose: Callable[[np.random.PCG64, int, float], tuple[Doubles, NDArray[np.bool_]]],
) -> Doubles:
    """Normal numbers between -limit and limit: proposals, of which those refused are drawn again."""
    values = np.empty(count)
    missing = np.arange(count)
    while missing.size:
        proposed, accepted = propose(bits, missing.size, limit)
        values[missing[accepted]] = proposed[accepted]
        missing = missing[~accepted]
    return values


def _normal_proposals(bits: np.random.PCG64, count: int, limit: float) -> tuple[Doubles, NDArray[np.bool_]]:
    proposed = _box_muller(_raw(bits, _even(count)), count)
    return proposed, np.abs(proposed) <= limit


def _flat_proposals(bits: np.random.PCG64, count: int, limit: float) -> tuple[Doubles, NDArray[np.bool_]]:
    """Where the limit is small, nearly all normal numbers would be refused; of these at least 79 % are taken.

    C. Robert: Simulation of Truncated Normal Variables, 1995.
    """
    proposed = (2 * _doubles(_raw(bits, count)) - 1) * limit
    return proposed, _doubles(_raw(bits, count)) < np.exp(-(proposed**2) / 2)


def _raw(bits: np.random.PCG64, count: int) -> NDArray[np.uint64]:
    return np.asarray(bits.random_raw(count))


def _clipped(values: Doubles, limit: float) -> Floats:
    """As float32, which rounds some values past the limit: those become the last one before it."""
    last = np.float32(limit)
    if float(last) > limit:
        last = np.nextafter(last, np.float32(0))
    return np.clip(values.astype(np.float32), -last, last)
