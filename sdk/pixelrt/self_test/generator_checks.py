"""Checks of the user's bundle where it writes images."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelrt.bundle import Bundle
from pixelrt.generation import Generator
from pixelrt.generation.inventing import invented_inputs
from pixelrt.metrics import mean_square, psnr
from pixelrt.self_test.checks import Check, ImpossibleError, expect, expect_equal
from pixelrt.self_test.protocol import Figures
from pixelrt.self_test.session_checks import NOTHING_TO_COMPARE, latency_figures, session_figures

Bytes = NDArray[np.uint8]

_DIFFERENT = 3
_REPEATS = 10
_COMPARED = 8
_WARM_UP = 5
_TIMED = 50
_ALLOWED_DB = 10.0
"""Errors of three times the size: with inputs that a network was not made for, half precision errs more."""
_LEAST_DB = 20.0
"""Errors of a tenth of the range: those of no arithmetic that is right."""


class GeneratorGround:
    """A bundle, and a way to open it; the generator is kept."""

    def __init__(
        self,
        bundle: Bundle,
        open_generator: Callable[[], Generator],
        references: Sequence[tuple[str, Callable[[], Generator]]] = (),
    ) -> None:
        """Nothing is opened yet.

        Args:
            bundle: What is run.
            open_generator: Opens it.
            references: Backends of the CPU that can run it too, by name.
        """
        self.bundle = bundle
        self.references = references
        self._open = open_generator
        self._kept: Generator | None = None

    def generator(self) -> Generator:
        """The generator, the same one each time."""
        if self._kept is None:
            self._kept = self._open()
        return self._kept

    def inputs(self, count: int) -> list[dict[str, Any]]:
        """Different inputs, each for one image."""
        return [invented_inputs(self.bundle.generation, 1, seed) for seed in range(count)]

    def close(self) -> None:
        """Close the generator."""
        if self._kept is not None:
            self._kept.close()
        self._kept = None


def loads(ground: GeneratorGround) -> Figures:
    """It opens, makes an image, and says what runs."""
    generator = ground.generator()
    generator(**ground.inputs(1)[0])
    return session_figures(generator.session.info)


def repeats(ground: GeneratorGround) -> Figures:
    """The same input gives the same image each time, and another input another one."""
    generator, inputs = ground.generator(), ground.inputs(_DIFFERENT)
    first = [generator(**given).images for given in inputs]
    for index in range(1, _DIFFERENT):
        stale = np.array_equal(first[index], first[0]) and not _same(inputs[index], inputs[0])
        expect(not stale, f"input {index} gives the image that input 0 gave, byte for byte")
    for turn in range(_REPEATS * _DIFFERENT):
        index = turn % _DIFFERENT
        found = generator(**inputs[index]).images
        expect_equal(found, first[index], f"the image of input {index} at turn {turn}")
    return {"images": (_REPEATS + 1) * _DIFFERENT}


def _same(given: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether inputs are the same: there may be two labels in all."""
    return all(np.array_equal(given[name], other[name]) for name in given)


def speed(ground: GeneratorGround) -> Figures:
    """How long an image takes: figures, no verdict."""
    generator, inputs = ground.generator(), ground.inputs(_DIFFERENT)
    for turn in range(_WARM_UP):
        generator(**inputs[turn % _DIFFERENT])
    latencies = [generator(**inputs[turn % _DIFFERENT]).latency for turn in range(_TIMED)]
    height, width = ground.bundle.generation.output.size
    figures = latency_figures(latencies, generator.session.graphs, "image")
    return {"image": f"{height}x{width}", **figures}


def agreement(ground: GeneratorGround) -> Figures:
    """The images are near those of the backends of the CPU.

    The gate's limits are not these: they hold for the recipe's samples, and the inputs here are invented. Its
    PSNR says how near images of this bundle should be; some decibels less are let pass. A single byte is not
    judged: at an edge it may differ by anything.
    """
    if not ground.references:
        raise ImpossibleError(NOTHING_TO_COMPARE)
    generator, inputs = ground.generator(), ground.inputs(_COMPARED)
    least = least_psnr(ground.bundle.generation.gate.psnr)
    found = [generator(**given).images for given in inputs]
    figures: Figures = {}
    for name, open_reference in ground.references:
        with open_reference() as reference:
            expected = [reference(**given).images for given in inputs]
        worst = psnr(max(mean_square(mine, theirs) for mine, theirs in zip(found, expected, strict=True)))
        largest = max(_difference(mine, theirs) for mine, theirs in zip(found, expected, strict=True))
        told = f"{worst:.1f} dB" if math.isfinite(worst) else "same bytes"
        figures[f"as {name}"] = told if largest == 0 else f"{told}, max difference {largest}"
        expect(
            worst >= least,
            f"of {_COMPARED} images of invented inputs one has a PSNR of {told} to that of {name} on the "
            f"CPU, and bytes differ by up to {largest}; at least {least:g} dB were expected",
        )
    return figures


def least_psnr(of_gate: float) -> float:
    """The PSNR in dB that images of invented inputs must have, by what the gate demands of the recipe's."""
    return max(of_gate - _ALLOWED_DB, min(of_gate, _LEAST_DB))


def _difference(found: Bytes, expected: Bytes) -> int:
    return int(np.abs(found.astype(np.int16) - expected).max())


GENERATOR_CHECKS = (
    Check(name="loads", run=loads, limit_s=1800, needed=True),
    Check(name="repeats", run=repeats, limit_s=180),
    Check(name="speed", run=speed, limit_s=120),
    Check(name="agreement", run=agreement, limit_s=180),
)
