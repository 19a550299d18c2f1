"""Random numbers of generators: each sample's own, bounded, and of the distribution promised."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelrt.errors import InputError
from pixelrt.generation.drawing import draw_labels, draw_latents, draw_noise
from pixelrt.manifest import LabelInfo, LatentInfo, NoiseInfo

seeds = st.integers(0, 2**70)
latents = st.builds(
    LatentInfo,
    size=st.lists(st.integers(1, 5), min_size=1, max_size=3).map(tuple),
    distribution=st.sampled_from(["normal", "uniform"]),
)
limits = st.one_of(st.none(), st.floats(1e-6, 50))
EXPECTED = [[-0.1390330940, -1.0905368328, 0.2650570571], [-0.5499641895, 0.3135966659, 0.9104277492]]
VECTOR = LatentInfo(size=(20_000,), distribution="normal")


class TestLatents:
    @settings(max_examples=60, deadline=None)
    @given(latents, seeds, limits, st.integers(0, 6), st.integers(0, 6))
    def test_a_sample_is_its_own(
        self, info: LatentInfo, seed: int, truncation: float | None, first: int, count: int
    ) -> None:
        many = draw_latents(info, seed, range(first + count), truncation)
        assert many.dtype == np.float32
        assert many.shape == (first + count, *info.size)
        np.testing.assert_array_equal(
            many[first:], draw_latents(info, seed, range(first, first + count), truncation)
        )
        backwards = draw_latents(info, seed, list(range(first + count))[::-1], truncation)
        np.testing.assert_array_equal(many[::-1], backwards)

    @settings(max_examples=20, deadline=None)
    @given(latents, seeds, limits)
    def test_a_sample_far_away_is_its_own(
        self, info: LatentInfo, seed: int, truncation: float | None
    ) -> None:
        """And costs no more: nothing in front of it is drawn."""
        far = 10**15
        drawn = draw_latents(info, seed, [far + 1, 3, far, 3], truncation)
        np.testing.assert_array_equal(
            drawn[[2, 0]], draw_latents(info, seed, range(far, far + 2), truncation)
        )
        np.testing.assert_array_equal(drawn[1], draw_latents(info, seed, range(4), truncation)[3])
        np.testing.assert_array_equal(drawn[3], drawn[1])

    @settings(max_examples=60, deadline=None)
    @given(latents, seeds, st.floats(1e-6, 50))
    def test_none_is_beyond_the_truncation(self, info: LatentInfo, seed: int, truncation: float) -> None:
        drawn = draw_latents(info, seed, range(8), truncation)
        assert np.isfinite(drawn).all()
        assert float(np.abs(drawn).max()) <= truncation

    @settings(max_examples=30, deadline=None)
    @given(seeds, seeds)
    def test_other_seeds_and_samples_differ(self, seed: int, other: int) -> None:
        info = LatentInfo(size=(4,), distribution="normal")
        here = draw_latents(info, seed, range(3))
        assert len({sample.tobytes() for sample in here}) == 3
        assert (here.tobytes() == draw_latents(info, other, range(3)).tobytes()) == (seed == other)

    @pytest.mark.parametrize("truncation", [None, 0.01, 0.5, 1.2, 1.3, 3.0])
    def test_are_normal(self, truncation: float | None) -> None:
        """Against the moments of the truncated normal distribution."""
        drawn = draw_latents(VECTOR, 1, [0], truncation)[0].astype(float)
        limit = math.inf if truncation is None else truncation
        mass = math.erf(limit / math.sqrt(2))
        density = 0.0 if truncation is None else math.exp(-(limit**2) / 2) / math.sqrt(2 * math.pi)
        variance = 1 - (0.0 if truncation is None else 2 * limit * density / mass)
        assert abs(drawn.mean()) < 4 * math.sqrt(variance / drawn.size)
        assert drawn.var() == pytest.approx(variance, rel=0.04)
        inside = math.erf(0.5 * min(limit, 2) / math.sqrt(2)) / mass
        assert np.mean(np.abs(drawn) < 0.5 * min(limit, 2)) == pytest.approx(inside, abs=0.015)

    @pytest.mark.parametrize(("truncation", "limit"), [(None, 1.0), (0.25, 0.25), (5.0, 1.0)])
    def test_are_uniform(self, truncation: float | None, limit: float) -> None:
        info = LatentInfo(size=(20_000,), distribution="uniform")
        drawn = draw_latents(info, 1, [0], truncation)[0].astype(float)
        assert drawn.var() == pytest.approx(limit**2 / 3, rel=0.04)
        assert np.histogram(drawn, 10, (-limit, limit))[0].min() > 1_700

    def test_stay_as_they_are(self) -> None:
        """Whatever becomes of NumPy: a seed that was noted gives the same images in years."""
        drawn = draw_latents(LatentInfo(size=(3,), distribution="normal"), 7, [0, 5])
        np.testing.assert_allclose(drawn, EXPECTED, rtol=1e-6)

    @pytest.mark.parametrize("seed", [-1, 1.0, "1", None, True])
    def test_refuse_other_seeds(self, seed: Any) -> None:
        with pytest.raises(InputError, match=r"seed is .*, expected a whole number of at least 0"):
            draw_latents(VECTOR, seed, [0])

    @pytest.mark.parametrize("truncation", [0, -1.0, math.nan, math.inf, "1", True])
    def test_refuse_other_truncations(self, truncation: Any) -> None:
        with pytest.raises(InputError, match=r"truncation is .*, expected a number above 0"):
            draw_latents(VECTOR, 0, [0], truncation)

    @pytest.mark.parametrize("indices", [[0, -1], range(-1, 2)])
    def test_refuse_other_indices(self, indices: Any) -> None:
        with pytest.raises(InputError, match="index -1 of a sample"):
            draw_latents(VECTOR, 0, indices)

    def test_seeds_of_any_length_are_different(self) -> None:
        """Also those that differ in words of zeros, or hold what others are for."""
        seeds = [0, 1, 2, 1 << 32, 1 << 33, 1 << 64, (1 << 64) + 1, (1 << 32) + 1]
        info = LatentInfo(size=(8,), distribution="normal")
        noise = NoiseInfo(name="a", size=(8,), distribution="normal")
        drawn = [draw_latents(info, seed, [0]).tobytes() for seed in seeds]
        assert len({*drawn, *(draw_noise(noise, seed, [0]).tobytes() for seed in seeds)}) == 2 * len(seeds)

    def test_attempts_do_not_resemble_each_other(self) -> None:
        """Values that were drawn again are as independent as the others."""
        drawn = draw_latents(VECTOR, 2, range(2), 0.9).astype(float)
        for first, second in ((drawn[0], drawn[1]), (drawn[0, :-1], drawn[0, 1:])):
            assert abs(np.corrcoef(first, second)[0, 1]) < 4 / math.sqrt(first.size)


class TestNoise:
    def test_inputs_get_their_own(self) -> None:
        first, second = (
            NoiseInfo(name=name, size=(64,), distribution="normal") for name in ("noise_0", "noise_1")
        )
        drawn = draw_noise(first, 3, range(4))
        assert drawn.shape == (4, 64)
        assert not np.array_equal(drawn, draw_noise(second, 3, range(4)))
        latent = draw_latents(LatentInfo(size=(64,), distribution="normal"), 3, range(4))
        assert not np.array_equal(drawn, latent)
        np.testing.assert_array_equal(drawn[2:], draw_noise(first, 3, [2, 3]))

    def test_unit_noise_never_reaches_one(self) -> None:
        drawn = draw_noise(NoiseInfo(name="noise_0", size=(100_000,), distribution="unit"), 0, [0])
        assert drawn.min() >= 0 and drawn.max() < 1
        assert drawn.mean() == pytest.approx(0.5, abs=0.005)
        assert np.mean(drawn < 0.1) == pytest.approx(0.1, abs=0.005)


class TestLabels:
    def test_are_each_as_likely(self) -> None:
        info = LabelInfo(names=("a", "b", "c"))
        drawn = draw_labels(info, 0, range(3000))
        assert drawn.dtype == np.int32
        assert np.bincount(drawn, minlength=3).min() > 900
        np.testing.assert_array_equal(drawn[7:9], draw_labels(info, 0, [7, 8]))
        assert not np.array_equal(drawn, draw_labels(info, 1, range(3000)))

    def test_of_none(self) -> None:
        assert draw_labels(LabelInfo(names=("a",)), 0, range(0)).shape == (0,)
