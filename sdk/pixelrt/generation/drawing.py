"""Random numbers for generators: sample `i` of a seed depends on the seed and `i`, and on nothing else.

Sixteen samples begin with the four that four samples are, wherever they are drawn and in whatever order: each
seed and purpose has a sequence of random words, of which every sample takes as many as it needs, one sample
after the other. The words are those of PCG64, which NumPy promises not to change; all that is made of them is
made here, because NumPy makes no such promise for its distributions.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.random.bit_generator import ISeedSequence
from numpy.typing import NDArray

from pixelrt.errors import InputError
from pixelrt.manifest import LabelInfo, LatentInfo, NoiseInfo

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Words = NDArray[np.uint64]
Flags = NDArray[np.bool_]
Indices = Sequence[int]
Purpose = tuple[str, ...]

_LATENT, _LABEL, _NOISE = "latent", "label", "noise"
_PROPOSE_UNIFORMLY_BELOW = math.sqrt(math.pi / 2)
_FAR = 0x9E3779B97F4A7C15F39CC0605CEDC835
"""Words between two attempts at the same values, as many as `PCG64.jumped` skips: the golden section of all
there are. At the distance of a large power of two they would resemble each other."""


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
    words, count = _Words(seed, (_LATENT,), indices), math.prod(info.size)
    if info.distribution == "uniform":
        limit = 1.0 if truncation is None else min(1.0, float(truncation))
        drawn = _clipped(_between(words.take(count), limit), limit)
    elif truncation is None:
        drawn = _normal(words.take(_even(count)), count).astype(np.float32)
    else:
        drawn = _clipped(_truncated(words, count, float(truncation)), truncation)
    return drawn.reshape(-1, *info.size)


def draw_noise(info: NoiseInfo, seed: int, indices: Indices) -> Floats:
    """Noise for one input of a network that is random inside; inputs of other names get other noise.

    Returns:
        float32[N, *size].

    Raises:
        InputError: If the seed or an index cannot be used.
    """
    words, count = _Words(seed, (_NOISE, info.name), indices), math.prod(info.size)
    if info.distribution == "normal":
        drawn = _normal(words.take(_even(count)), count).astype(np.float32)
    else:
        drawn = _unit(words.take(count))
    return drawn.reshape(-1, *info.size)


def draw_labels(info: LabelInfo, seed: int, indices: Indices) -> NDArray[np.int32]:
    """Class ids, each as likely as the others, int32[N].

    Raises:
        InputError: If the seed or an index cannot be used.
    """
    drawn = _Words(seed, (_LABEL,), indices).take(1)[:, 0] % np.uint64(len(info.names))
    return drawn.astype(np.int32)


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


class _Words:
    """The random words of some samples, for one purpose."""

    def __init__(self, seed: int, purpose: Purpose, indices: Indices) -> None:
        check_seed(seed)
        _check_indices(indices)
        self._bits = np.random.PCG64(_Key(int(seed), purpose))  # type: ignore[arg-type]  # NumPy takes it
        self._place = 0
        self._indices = indices

    def take(self, count: int, attempt: int = 0) -> Words:
        """So many for each sample, others in each attempt, uint64[N, count]."""
        start, indices = attempt * _FAR, self._indices
        if isinstance(indices, range) and indices.step == 1:  # one sample after the other, as the words lie
            return self._read(start + indices.start * count, len(indices) * count).reshape(-1, count)
        rows = {index: self._read(start + index * count, count) for index in sorted({*map(int, indices)})}
        return np.array([rows[index] for index in indices], np.uint64).reshape(-1, count)

    def __len__(self) -> int:
        return len(self._indices)

    def _read(self, place: int, count: int) -> Words:
        self._bits.advance(place - self._place)
        self._place = place + count
        return np.asarray(self._bits.random_raw(count))


class _Key(ISeedSequence):
    """Where the words of a seed and purpose begin: what SHA-256 makes of both.

    `numpy.random.SeedSequence` would do, in four times the time, which is felt beside a small network.
    """

    def __init__(self, seed: int, purpose: Purpose) -> None:
        self._text = repr((seed, *purpose))

    def generate_state(self, n_words: int, dtype: Any = np.uint64) -> Words:
        """The 4 words that PCG64 asks for."""
        return np.frombuffer(hashlib.sha256(self._text.encode()).digest(), "<u8").astype(np.uint64)


def _check_indices(indices: Indices) -> None:
    if isinstance(indices, range) and min(indices.start, indices.stop) >= 0:
        return
    for index in indices:
        if not _is_whole(index) or index < 0:
            raise InputError(f"index {index!r} of a sample: a whole number of at least 0 was expected")


def _doubles(words: Words) -> Doubles:
    """From 0 (included) to 1 (excluded), in steps of 2^-53."""
    fractions: Doubles = (words >> np.uint64(11)) * np.float64(2.0**-53)
    return fractions


def _unit(words: Words) -> Floats:
    """From 0 (included) to 1 (excluded), in steps of 2^-24: float32 holds them, so that none becomes 1."""
    return (words >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)


def _between(words: Words, limit: float) -> Doubles:
    """From -limit to limit. Drawing again what is beyond it leaves what is uniform between."""
    return (2 * _doubles(words) - 1) * limit


def _even(count: int) -> int:
    return count + count % 2


def _normal(words: Words, count: int) -> Doubles:
    """Two normal numbers from two uniform ones.

    G. Box, M. Muller: A Note on the Generation of Random Normal Deviates, 1958.

    Args:
        words: uint64[N, 2 * ceil(count / 2)].
        count: How many are wanted.

    Returns:
        float64[N, count].
    """
    uniform = _doubles(words)
    pairs = words.shape[1] // 2
    radius = np.sqrt(-2 * np.log1p(-uniform[:, :pairs]))
    angle = 2 * np.pi * uniform[:, pairs:]
    drawn = np.empty_like(uniform)
    np.multiply(radius, np.cos(angle), out=drawn[:, :pairs])
    np.multiply(radius, np.sin(angle), out=drawn[:, pairs:])
    return drawn[:, :count]


def _truncated(words: _Words, count: int, limit: float) -> Doubles:
    """Normal numbers between -limit and limit: proposals, of which those refused are drawn again.

    Returns:
        float64[N, count].
    """
    propose = _flat_proposals if limit < _PROPOSE_UNIFORMLY_BELOW else _normal_proposals
    values = np.empty((len(words), count))
    missing = np.ones(values.shape, np.bool_)
    for attempt in itertools.count():
        proposed, accepted = propose(words, count, limit, attempt)
        np.copyto(values, proposed, where=missing)
        missing &= ~accepted
        if not missing.any():
            break
    return values


def _normal_proposals(words: _Words, count: int, limit: float, attempt: int) -> tuple[Doubles, Flags]:
    proposed = _normal(words.take(_even(count), attempt), count)
    return proposed, np.abs(proposed) <= limit


def _flat_proposals(words: _Words, count: int, limit: float, attempt: int) -> tuple[Doubles, Flags]:
    """Where the limit is small, nearly all normal numbers would be refused; of these at least 79 % are taken.

    C. Robert: Simulation of Truncated Normal Variables, 1995.
    """
    taken = words.take(2 * count, attempt)
    proposed = _between(taken[:, :count], limit)
    return proposed, _doubles(taken[:, count:]) < np.exp(-(proposed**2) / 2)


def _clipped(values: Doubles, limit: float) -> Floats:
    """As float32, which rounds some values past the limit: those become the last one before it."""
    last = np.float32(limit)
    if float(last) > limit:
        last = np.nextafter(last, np.float32(0))
    return np.minimum(np.maximum(values.astype(np.float32), -last), last)
