"""Random numbers for generators: sample `i` of a seed depends on the seed and `i`, and on nothing else.

Sixteen samples begin with the four that four samples are, wherever they are drawn and in whatever order: each
seed and purpose has a sequence of random words, in which every sample has a place of its own. The words are
those of PCG64, which NumPy promises not to change. Uniform numbers are made of them here; normal ones by
RandomState, whose numbers NumPy promises not to change either (NEP 19), while those of Generator may.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.random.bit_generator import ISeedSequence
from numpy.typing import NDArray

from pixelrt.errors import InputError
from pixelrt.frames import is_whole
from pixelrt.manifest import LabelInfo, LatentInfo, NoiseInfo

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Words = NDArray[np.uint64]
Flags = NDArray[np.bool_]
Indices = Sequence[int]
Purpose = tuple[str, ...]

_LATENT, _LABEL, _NOISE = "latent", "label", "noise"
_PROPOSE_UNIFORMLY_BELOW = math.sqrt(math.pi / 2)
_APART = 0x9E3779B97F4A7C15
"""Words between two samples that take an unknown number of them: the golden section of 2^64."""
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
    stream, count = _Stream(seed, (_LATENT,), indices), math.prod(info.size)
    if info.distribution == "uniform":
        limit = 1.0 if truncation is None else min(1.0, float(truncation))
        drawn = _clipped(_between(stream.words(count), limit), limit)
    elif truncation is None:
        drawn = stream.normals(count).astype(np.float32)
    else:
        drawn = _clipped(_truncated(stream, count, float(truncation)), truncation)
    return drawn.reshape(-1, *info.size)


def draw_noise(info: NoiseInfo, seed: int, indices: Indices) -> Floats:
    """Noise for one input of a network that is random inside; inputs of other names get other noise.

    Returns:
        float32[N, *size].

    Raises:
        InputError: If the seed or an index cannot be used.
    """
    stream, count = _Stream(seed, (_NOISE, info.name), indices), math.prod(info.size)
    if info.distribution == "normal":
        drawn = stream.normals(count).astype(np.float32)
    else:
        drawn = _unit(stream.words(count))
    return drawn.reshape(-1, *info.size)


def draw_labels(info: LabelInfo, seed: int, indices: Indices) -> NDArray[np.int32]:
    """Class ids, each as likely as the others, int32[N].

    Raises:
        InputError: If the seed or an index cannot be used.
    """
    drawn = _Stream(seed, (_LABEL,), indices).words(1)[:, 0] % np.uint64(len(info.names))
    return drawn.astype(np.int32)


def check_seed(seed: object) -> None:
    """Refuse what is no seed.

    Raises:
        InputError: If it is no whole number of at least 0.
    """
    if not is_whole(seed) or seed < 0:  # type: ignore[operator]
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


class _Stream:
    """The random numbers of some samples, for one purpose."""

    def __init__(self, seed: int, purpose: Purpose, indices: Indices) -> None:
        check_seed(seed)
        _check_indices(indices)
        self._key = _Key(int(seed), purpose)
        self._indices = indices

    def __len__(self) -> int:
        return len(self._indices)

    def words(self, count: int, attempt: int = 0) -> Words:
        """So many for each sample, others in each attempt, uint64[N, count]."""
        start, indices = attempt * _FAR, self._indices
        if isinstance(indices, range) and indices.step == 1:  # one sample after the other, as the words lie
            bits = self._bits(start + indices.start * count)
            return np.asarray(bits.random_raw(len(indices) * count)).reshape(-1, count)
        drawn = self._each(lambda index: self._bits(start + index * count).random_raw(count))
        return np.array(drawn, np.uint64).reshape(-1, count)

    def normals(self, count: int, attempt: int = 0) -> Doubles:
        """Normal numbers, likewise, float64[N, count]."""
        start = attempt * _FAR
        drawn = self._each(
            lambda index: np.random.RandomState(self._bits(start + index * _APART)).standard_normal(count)
        )
        return np.array(drawn).reshape(-1, count)

    def _bits(self, place: int) -> np.random.PCG64:
        bits = np.random.PCG64(self._key)  # type: ignore[arg-type]  # NumPy takes it
        bits.advance(place)
        return bits

    def _each(self, draw: Callable[[int], Any]) -> list[Any]:
        """What every sample draws, which those that come twice draw once."""
        drawn = {index: draw(index) for index in {*map(int, self._indices)}}
        return [drawn[index] for index in self._indices]


class _Key(ISeedSequence):
    """Where the words of a seed and purpose begin: what SHA-256 makes of both.

    `numpy.random.SeedSequence` would do, in four times the time, which is felt beside a small network.
    """

    def __init__(self, seed: int, purpose: Purpose) -> None:
        digest = hashlib.sha256(repr((seed, *purpose)).encode()).digest()
        self._state = np.frombuffer(digest, "<u8").astype(np.uint64)

    def generate_state(self, n_words: int, dtype: Any = np.uint64) -> Words:
        """The 4 words that PCG64 asks for."""
        return self._state


def _check_indices(indices: Indices) -> None:
    if isinstance(indices, range) and min(indices.start, indices.stop) >= 0:
        return
    for index in indices:
        if not is_whole(index) or index < 0:
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


def _truncated(stream: _Stream, count: int, limit: float) -> Doubles:
    """Normal numbers between -limit and limit: proposals, of which those refused are drawn again.

    Returns:
        float64[N, count].
    """
    propose = _flat_proposals if limit < _PROPOSE_UNIFORMLY_BELOW else _normal_proposals
    values = np.empty((len(stream), count))
    missing = np.ones(values.shape, np.bool_)
    for attempt in itertools.count():
        proposed, accepted = propose(stream, count, limit, attempt)
        np.copyto(values, proposed, where=missing)
        missing &= ~accepted
        if not missing.any():
            break
    return values


def _normal_proposals(stream: _Stream, count: int, limit: float, attempt: int) -> tuple[Doubles, Flags]:
    proposed = stream.normals(count, attempt)
    return proposed, np.abs(proposed) <= limit


def _flat_proposals(stream: _Stream, count: int, limit: float, attempt: int) -> tuple[Doubles, Flags]:
    """Where the limit is small, nearly all normal numbers would be refused; of these at least 79 % are taken.

    C. Robert: Simulation of Truncated Normal Variables, 1995.
    """
    words = stream.words(2 * count, attempt)
    proposed = _between(words[:, :count], limit)
    return proposed, _doubles(words[:, count:]) < np.exp(-(proposed**2) / 2)


def _clipped(values: Doubles, limit: float) -> Floats:
    """As float32, which rounds some values past the limit: those become the last one before it."""
    last = np.float32(limit)
    if float(last) > limit:
        last = np.nextafter(last, np.float32(0))
    return np.minimum(np.maximum(values.astype(np.float32), -last), last)
