"""`pixelrt doctor BUNDLE --self-test` of bundles that write images: what works passes, and nothing else."""

from __future__ import annotations

import dataclasses
import functools
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
from pixelrt.self_test.generator_checks import GENERATOR_CHECKS, GeneratorGround, least_psnr

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


@pytest.mark.parametrize(
    ("share", "difference", "told"),
    [
        (1, 0, "same bytes"),
        (1, 1, "48.1 dB, max difference 1"),
        (1, 8, "30.1 dB, max difference 8"),  # the gate's limit of 40 dB is for samples of the recipe
        (288, 128, "max difference 128"),  # a single byte, at an edge
        (1, 9, None),
        (2, 64, None),
    ],
)
def test_images_are_near_those_of_the_cpu(
    bundles: Bundles, share: int, difference: int, told: str | None
) -> None:
    def changed(made: Generated) -> Generated:
        images = made.images.astype(int)
        some = images.reshape(-1)[::share]
        some += np.where(some < 128, difference, -difference)
        return dataclasses.replace(made, images=images.astype(np.uint8))

    bundle = bundles[FILTER]
    ground = ground_of(bundle, changed, reference(bundle))
    if told is not None:
        assert told in str(CHECKS["agreement"](ground)["as onnxruntime float32"])
    else:
        with pytest.raises(
            CheckFailedError, match=r"bytes differ by up to \d+; at least 30 dB were expected"
        ):
            CHECKS["agreement"](ground)
    ground.close()


@pytest.mark.parametrize(("of_gate", "least"), [(50, 40), (40, 30), (25, 20), (12, 12), (0, 0)])
def test_a_gate_that_demands_little(of_gate: float, least: float) -> None:
    assert least_psnr(of_gate) == least


def test_nothing_to_compare_with(bundles: Bundles) -> None:
    with pytest.raises(ImpossibleError, match="no other backend of the CPU is installed"):
        CHECKS["agreement"](ground_of(bundles[GAN]))
