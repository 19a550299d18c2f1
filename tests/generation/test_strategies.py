"""Strategies: values that say what to draw, and say it again in the same way."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as numbers
from numpy.typing import NDArray

from pixelrt.errors import InputError
from pixelrt.generation import Conditional, Grid, Interpolate, Labels, Latents, Random, Strategy
from pixelrt.generation.drawing import draw_latents
from pixelrt.generation.interpolating import lerp, slerp
from pixelrt.manifest import GenerationManifest, LatentInfo
from pixelrt.testing import fake_generator

LABELS = ("cat", "dog", "3")
SIZE = (2, 3, 4)
Floats = NDArray[np.float32]


def manifest_of(latent: Any = SIZE, labels: tuple[str, ...] = LABELS) -> GenerationManifest:
    return fake_generator(lambda _: np.zeros(0), latent=latent, labels=labels).bundle.generation


MANIFEST = manifest_of()
SHARES = np.linspace(0, 1, 9)
seeds = st.integers(0, 2**64)
labels = st.one_of(st.sampled_from(LABELS), st.integers(0, 2))
vectors = numbers.arrays(
    np.float32, st.integers(2, 40), elements=st.floats(-8, 8, width=32, allow_subnormal=False)
)
pairs = vectors.flatmap(
    lambda first: st.tuples(
        st.just(first), numbers.arrays(np.float32, first.shape, elements=st.floats(-8, 8, width=32))
    )
)
strategies = st.one_of(
    st.builds(Random, seed=seeds, truncation=st.none() | st.floats(0.01, 4)),
    st.builds(Conditional, st.one_of(labels, st.lists(labels, min_size=1, max_size=4)), seed=seeds),
    st.builds(Interpolate, seeds, seeds, steps=st.integers(2, 20), label=labels),
    st.builds(
        Grid,
        st.integers(1, 4),
        st.integers(1, 4),
        axes=st.lists(st.integers(0, 23), min_size=2, max_size=2, unique=True).map(tuple),
        span=st.floats(0.1, 5),
        seed=st.none() | seeds,
        label=labels,
    ),
    st.builds(Labels, st.integers(1, 5), seed=seeds),
)


class TestAll:
    @settings(max_examples=80, deadline=None)
    @given(strategies, st.data())
    def test_a_sample_is_its_own(self, strategy: Strategy, data: st.DataObject) -> None:
        """Wherever a row of samples is cut, its samples are the same."""
        count = strategy.count(MANIFEST) or data.draw(st.integers(1, 8))
        whole = strategy.draw(MANIFEST, range(count))
        assert whole.latents is not None and whole.labels is not None
        assert (whole.latents.dtype, whole.latents.shape) == (np.float32, (count, *SIZE))
        assert (whole.labels.dtype, whole.labels.shape) == (np.int32, (count,))
        assert whole.labels.min() >= 0 and whole.labels.max() < 3
        assert len(whole.noise_indices) == count and np.isfinite(whole.latents).all()
        start = data.draw(st.integers(0, count - 1))
        part = strategy.draw(MANIFEST, range(start, count))
        np.testing.assert_array_equal(part.latents, whole.latents[start:])
        np.testing.assert_array_equal(part.labels, whole.labels[start:])
        assert list(part.noise_indices) == list(whole.noise_indices)[start:]

    def test_are_values(self) -> None:
        assert Random(7, 0.8) == Random(seed=7, truncation=0.8) != Random(seed=8, truncation=0.8)
        assert Conditional(["cat", "dog"]) == Conditional(("cat", "dog"))
        assert Conditional(np.array("dog")).draw(MANIFEST, range(1)).labels == 1
        assert len({Labels(2), Labels(2), Grid(1, 2), Grid(1, 2, [0, 1], np.float32(2))}) == 2  # type: ignore[arg-type]
        with pytest.raises(AttributeError):
            Random().seed = 3  # type: ignore[misc]

    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (lambda: Random(seed=-1), "seed is -1"),
            (lambda: Random(truncation=0), "truncation is 0"),
            (lambda: Conditional([]), "label is empty"),
            (lambda: Interpolate(1, 2, steps=1), "steps is 1, expected a whole number of at least 2"),
            (lambda: Interpolate(1, 2, mode="linear"), "mode is 'linear', expected one of slerp, lerp"),  # type: ignore[arg-type]
            (lambda: Interpolate(1, "2"), r"b is '2', expected a seed .* or a latent as an array"),  # type: ignore[arg-type]
            (lambda: Grid(0, 2), "rows is 0"),
            (lambda: Grid(2, 2, axes=(1, 1)), r"axes is \(1, 1\), expected two different"),
            (lambda: Grid(2, 2, span=0), "span is 0"),
            (lambda: Grid(2, 2, span=True), "span is True"),
            (lambda: Labels(0), "columns is 0"),
        ],
    )
    def test_refuse_what_makes_no_sense(self, make: Any, message: str) -> None:
        with pytest.raises(InputError, match=message):
            make()

    @pytest.mark.parametrize(
        ("strategy", "message"),
        [
            (Conditional("cta"), r"there is no label 'cta' \(did you mean 'cat'\?\); there are"),
            (Conditional(3), "label is 3, expected an id from 0 to 2, or a name in quotes"),
            (Conditional(True), "label is True, expected a name"),
            (Interpolate(np.zeros(7), 1), r"a is float64\[7\], expected float32\[2, 3, 4\]"),
            (Interpolate(np.zeros((1, *SIZE)), 1), "a holds 1 latents, expected one"),
            (Grid(2, 2, axes=(0, 24)), r"axes is \(0, 24\), the latent has the coordinates 0 to 23"),
            (Latents(np.full(SIZE, np.nan)), "not finite"),
            (Latents(np.zeros((0, *SIZE))), r"latent is float64\[0, 2, 3, 4\]"),
            (Latents(np.zeros((3, *SIZE)), labels=["cat", "dog"]), "2 labels came for 3 latents"),
        ],
    )
    def test_refuse_what_does_not_fit(self, strategy: Strategy, message: str) -> None:
        with pytest.raises(InputError, match=message):
            strategy.draw(MANIFEST, range(1))


class TestEach:
    def test_labels_come_in_turn(self) -> None:
        drawn = Conditional(["dog", 0]).draw(MANIFEST, range(5))
        assert drawn.labels is not None and drawn.labels.tolist() == [1, 0, 1, 0, 1]
        again = Random().draw(MANIFEST, range(5))
        np.testing.assert_array_equal(drawn.latents, again.latents)

    def test_every_label_has_the_same_latents(self) -> None:
        drawn = Labels(4, seed=2).draw(MANIFEST, range(12))
        assert drawn.latents is not None and drawn.labels is not None
        rows = drawn.latents.reshape(3, 4, *SIZE)
        assert (rows == rows[0]).all() and not (rows[:, 0] == rows[:, 1]).any()
        assert drawn.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
        assert list(drawn.noise_indices) == [0, 1, 2, 3] * 3

    def test_a_grid_walks_two_coordinates(self) -> None:
        strategy = Grid(3, 5, axes=(7, 2), span=1.5, seed=4, label=1)
        drawn = strategy.draw(MANIFEST, range(15))
        assert drawn.latents is not None
        flat = drawn.latents.reshape(3, 5, -1)
        np.testing.assert_allclose(flat[:, 0, 7], [-1.5, 0, 1.5])
        np.testing.assert_allclose(flat[0, :, 2], [-1.5, -0.75, 0, 0.75, 1.5])
        others = np.delete(flat, [7, 2], axis=2)
        base = draw_latents(LatentInfo(size=SIZE, distribution="normal"), 4, [0]).ravel()
        assert (others == np.delete(base, [7, 2])).all()
        lone = Grid(1, 1).draw(MANIFEST, range(1)).latents
        assert lone is not None and not lone.any()

    def test_latents_of_your_own(self) -> None:
        array = np.arange(48.0).reshape(2, *SIZE)
        drawn = Latents(array, labels="dog").draw(MANIFEST, range(2))
        np.testing.assert_array_equal(drawn.latents, array.astype(np.float32))
        assert drawn.labels is not None and drawn.labels.tolist() == [1, 1]
        assert Latents(array[0]).count(MANIFEST) == 1


class TestInterpolation:
    @settings(max_examples=150, deadline=None)
    @given(pairs)
    def test_the_norm_goes_straight(self, ends: tuple[Floats, Floats]) -> None:
        start, end = ends
        way = slerp(start, end, SHARES)
        assert np.isfinite(way).all()
        norms = np.linalg.norm(way.astype(float), axis=1)
        first, last = np.linalg.norm(start.astype(float)), np.linalg.norm(end.astype(float))
        np.testing.assert_allclose(norms, (1 - SHARES) * first + SHARES * last, rtol=1e-5, atol=1e-6)

    @settings(max_examples=150, deadline=None)
    @given(pairs)
    def test_the_angle_goes_evenly(self, ends: tuple[Floats, Floats]) -> None:
        start, end = (each.astype(float) for each in ends)
        first, last = np.linalg.norm(start), np.linalg.norm(end)
        assume(min(first, last) > 1e-3)
        whole = 2 * np.arctan2(
            np.linalg.norm(start / first - end / last), np.linalg.norm(start / first + end / last)
        )
        way = slerp(*ends, SHARES).astype(float)
        unit = way / np.linalg.norm(way, axis=1, keepdims=True)
        steps = [
            2 * np.arctan2(np.linalg.norm(here - there), np.linalg.norm(here + there))
            for here, there in itertools.pairwise(unit)
        ]
        np.testing.assert_allclose(steps, whole / 8, atol=2e-6)

    @settings(max_examples=100, deadline=None)
    @given(pairs, st.sampled_from([slerp, lerp]))
    def test_the_ends_are_exact(self, ends: tuple[Floats, Floats], between: Any) -> None:
        way = between(*ends, np.array([0.0, 0.3, 1.0]))
        assert way.dtype == np.float32
        assert way[0].tobytes() == ends[0].tobytes() and way[2].tobytes() == ends[1].tobytes()

    @settings(max_examples=60, deadline=None)
    @given(vectors)
    def test_special_directions(self, start: Floats) -> None:
        assume(np.linalg.norm(start) > 1e-3)
        zero = np.zeros_like(start)
        np.testing.assert_allclose(slerp(start, zero, SHARES), np.outer(1 - SHARES, start), rtol=1e-5)
        np.testing.assert_allclose(
            slerp(start, 2 * start, SHARES), np.outer(1 + SHARES, start), rtol=1e-4, atol=1e-5
        )
        opposite = slerp(start, -start, SHARES)
        assert abs(float(opposite[4] @ start)) <= 1e-4 * float(start @ start)
        np.testing.assert_array_equal(opposite, slerp(start, -start, SHARES))
        assert not slerp(zero, zero, SHARES).any()

    def test_one_value_has_no_arc(self) -> None:
        one = np.ones(1, np.float32)
        np.testing.assert_allclose(slerp(one, 3 * one, SHARES)[:, 0], 1 + 2 * SHARES)
        with pytest.raises(InputError, match="there is no arc; interpolate with mode='lerp'"):
            slerp(one, -one, SHARES)

    def test_as_a_strategy(self) -> None:
        info = LatentInfo(size=SIZE, distribution="normal")
        a, b = draw_latents(info, 3, [0])[0], draw_latents(info, 4, [0])[0]
        for strategy in (Interpolate(3, 4, steps=5), Interpolate(a, b, steps=5), Interpolate(3, b, steps=5)):
            drawn = strategy.draw(MANIFEST, range(5))
            assert drawn.latents is not None and drawn.labels is None
            np.testing.assert_array_equal(drawn.latents, slerp(a, b, np.linspace(0, 1, 5)))
            assert list(drawn.noise_indices) == [0] * 5
        straight = Interpolate(3, 4, steps=3, mode="lerp").draw(MANIFEST, range(3)).latents
        assert straight is not None
        np.testing.assert_allclose(straight[1], (a + b) / 2, rtol=1e-6)
