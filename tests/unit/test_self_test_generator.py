"""`pixelrt doctor BUNDLE --self-test` of bundles that write images: what works passes, and nothing else."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from generator_contract import bundles as bundles
from generators import ALL, FILTER, GAN, PAINTER, Kind

import pixelrt
from pixelrt import Generator
from pixelrt.bundle import Bundle
from pixelrt.generation import Generated
from pixelrt.self_test import Order, Result, groups
from pixelrt.self_test.checks import CheckFailedError, ImpossibleError, run_group
from pixelrt.self_test.generator_checks import GENERATOR_CHECKS, GeneratorGround, psnr_of

Bundles = Mapping[Kind, Bundle]
CHECKS = {check.name: check.run for check in GENERATOR_CHECKS}
Change = Callable[[Generated], Generated]


class Changed(Generator):
    """A generator, and what becomes of its images."""

    change: Change = staticmethod(lambda made: made)

    def __call__(self, given: Any = None, *, seed: int = 0, **inputs: Any) -> Generated:
        return self.change(super().__call__(given, seed=seed, **inputs))


def ground_of(bundle: Bundle, change: Change | None = None, references: Any = ()) -> GeneratorGround:
    opened = functools.partial(pixelrt.load, bundle, task="generation", device="cpu", backend="openvino")

    def make() -> Generator:
        made = Changed(bundle, opened().session)
        if change is not None:
            made.change = change  # type: ignore[method-assign]
        return made

    return GeneratorGround(bundle, make, references)


def reference(bundle: Bundle) -> list[tuple[str, Callable[[], Generator]]]:
    opened = functools.partial(pixelrt.load, bundle, task="generation", device="cpu", backend="onnxruntime")
    return [("onnxruntime float32", opened)]


@pytest.mark.parametrize("kind", [GAN, PAINTER, FILTER, ALL], ids=lambda kind: kind.name)
def test_bundles_that_work(bundles: Bundles, kind: Kind) -> None:
    order = Order(bundle=str(bundles[kind].path))
    group = groups.all_groups(order)[-1]
    assert group.name == "bundle"
    results: list[Any] = []
    run_group(group, order, results.append)
    found = {result.name: result for result in results if isinstance(result, Result)}
    assert {name: result.status for name, result in found.items()} == dict.fromkeys(CHECKS, "ok")
    assert found["loads"].figures["precision"] == "float32"
    assert found["speed"].figures["images"] == 50
    assert 0 < found["speed"].figures["p50, ms"] <= found["speed"].figures["p95, ms"]  # type: ignore[operator]
    assert set(found["agreement"].figures) == {"as openvino float32", "as onnxruntime float32"}


def test_an_image_that_never_changes(bundles: Bundles) -> None:
    kept: list[Generated] = []

    def stale(made: Generated) -> Generated:
        kept.append(made)
        return kept[0]

    ground = ground_of(bundles[GAN], stale)
    with pytest.raises(CheckFailedError, match="input 1 gives the image that input 0 gave"):
        CHECKS["repeats"](ground)
    ground.close()


def test_an_image_that_wanders(bundles: Bundles) -> None:
    calls = iter(range(10**6))

    def wander(made: Generated) -> Generated:
        images = made.images.copy()
        images[0, 0, 0, 0] = next(calls) % 251
        return dataclasses.replace(made, images=images)

    ground = ground_of(bundles[FILTER], wander)
    with pytest.raises(CheckFailedError, match="the image of input 0 at turn 0: 1 of 288 values differ"):
        CHECKS["repeats"](ground)
    ground.close()


@pytest.mark.parametrize(("difference", "passes"), [(0, True), (1, True), (33, False)])
def test_agreement_is_the_gates(bundles: Bundles, difference: int, passes: bool) -> None:
    """One byte of an image more than the gate's 32 away is one too many, whatever the PSNR."""

    def brighter(made: Generated) -> Generated:
        images = made.images.astype(int)
        corner = images[0, 0, 0, 0]
        images[0, 0, 0, 0] = corner + difference if corner < 128 else corner - difference
        return dataclasses.replace(made, images=images.astype(np.uint8))

    bundle = bundles[FILTER]
    ground = ground_of(bundle, brighter, reference(bundle))
    if passes:
        figures = CHECKS["agreement"](ground)
        assert figures["as onnxruntime float32"] == (
            "72.7 dB, max difference 1" if difference else "same bytes"
        )
    else:
        with pytest.raises(CheckFailedError, match=r"differ by up to 3[34]; at least 40 dB and at most 32"):
            CHECKS["agreement"](ground)
    ground.close()


def test_nothing_to_compare_with(bundles: Bundles) -> None:
    with pytest.raises(ImpossibleError, match="no other backend of the CPU is installed"):
        CHECKS["agreement"](ground_of(bundles[GAN]))


def test_psnr() -> None:
    """Against the definition, and scikit-image's value of the same arrays."""
    expected = np.zeros((1, 4, 4, 1), np.uint8)
    assert psnr_of(expected, expected) == math.inf
    assert psnr_of(expected + 1, expected) == pytest.approx(20 * math.log10(255))
    assert psnr_of(expected + 255, expected) == pytest.approx(0)
    metrics = pytest.importorskip("skimage.metrics")
    first, second = np.random.default_rng(0).integers(0, 256, (2, 1, 8, 12, 3), np.uint8)
    assert psnr_of(first, second) == pytest.approx(metrics.peak_signal_noise_ratio(first, second))
