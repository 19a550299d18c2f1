"""What `pixelrt generate` makes: from options and sources to images as they come."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pixelrt.cli.generate_inputs import Bytes, Given, Inputs, first_of
from pixelrt.cli.generate_options import draws_something, strategy_of, takes_of
from pixelrt.errors import InputError
from pixelrt.generation import Drawn, Generated, Generator, Strategy
from pixelrt.generation.drawing import draw_latents
from pixelrt.manifest import GenerationManifest

_DEFAULT_COUNT = 16


@dataclass(frozen=True, slots=True, eq=False)
class Made:
    """Some images as they were made."""

    generated: Generated
    names: tuple[str, ...] = ()
    """Of each, where a source has names."""
    given: tuple[Bytes, ...] = ()
    """The mask uint8[H, W] or image uint8[H, W, C] of each, where they came from a source."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Which images are to be made."""

    total: int | None
    """How many; None where nobody knows."""
    strategy: Strategy | None = None
    """What they are drawn by; None for an image of each frame of a source."""
    given: Mapping[str, Given] = field(default_factory=dict)
    """The mask and the image that a strategy's images have in common."""
    same: Mapping[str, Any] = field(default_factory=dict)
    """The label and the latent that the images of a source have in common, as far as they were asked for."""
    seed: int


def planned(arguments: argparse.Namespace, manifest: GenerationManifest, inputs: Inputs) -> Plan:
    """What the options ask for; all that can be known without the network is checked.

    Raises:
        InputError: If the options do not fit the generator, or latents cannot be read.
        SourceError: If the only mask or image cannot be read.
    """
    seed = arguments.seed or 0
    if inputs.sources and inputs.is_film:
        return Plan(total=inputs.total, same=_same_for_all(arguments, manifest, seed), seed=seed)
    strategy = strategy_of(arguments, manifest)
    asked = arguments.count or (1 if inputs.sources else _DEFAULT_COUNT)
    total = strategy.count(manifest) or asked
    if total > 1 and not draws_something(manifest):
        raise InputError(
            f"{total} images were asked for, and {manifest.name} takes {', '.join(takes_of(manifest))} "
            "alone: all would be the same; leave --count out"
        )
    given = {name: first_of(frames) for name, frames in inputs.frames(manifest).items()}
    return Plan(total=total, strategy=strategy, given=given, seed=seed)


def making(plan: Plan, generator: Generator, inputs: Inputs) -> Iterator[Made]:
    """The images of a plan, made as they are taken: memory does not grow with their number.

    Raises:
        SourceError: If a source breaks.
    """
    if plan.strategy is None:
        return _of_frames(plan, generator, inputs)
    assert plan.total is not None
    return _of_strategy(plan.strategy, plan.total, generator, plan.given)


def _of_strategy(
    strategy: Strategy, total: int, generator: Generator, given: Mapping[str, Given]
) -> Iterator[Made]:
    """In parts that fill the network and all slots."""
    values = {name: each.value for name, each in given.items()}
    main = given.get("mask", given.get("image"))
    largest = generator.largest_batch * generator.slots
    for start in range(0, total, largest):
        places = range(start, min(start + largest, total))
        made = generator.sample(len(places), strategy=_Part(strategy, places), **values)
        names = (main.name,) if main is not None and total == 1 else ()
        yield Made(made, names, () if main is None else (main.value,) * len(places))


@dataclass(frozen=True, slots=True)
class _Part:
    """Some samples of a strategy."""

    strategy: Strategy
    places: range

    def count(self, manifest: GenerationManifest) -> int | None:
        """See `Strategy.count`."""
        return len(self.places)

    @property
    def columns(self) -> int | None:
        """See `Strategy.columns`."""
        return self.strategy.columns

    @property
    def decides(self) -> frozenset[str]:
        """See `Strategy.decides`."""
        return self.strategy.decides

    def draw(self, manifest: GenerationManifest, indices: range) -> Drawn:
        """See `Strategy.draw`."""
        return self.strategy.draw(manifest, self.places[indices.start : indices.stop])


def _of_frames(plan: Plan, generator: Generator, inputs: Inputs) -> Iterator[Made]:
    """One image for each frame, as they come."""
    frames = inputs.frames(generator.bundle.generation)
    main = frames.pop("mask", None) or frames.pop("image")
    others = {name: first_of(rest).value for name, rest in frames.items()}
    waiting: list[Given] = []

    def noted() -> Iterator[Bytes]:
        for each in main:
            waiting.append(each)
            yield each.value

    for made in generator.stream(noted(), seed=plan.seed, **others, **plan.same):
        given = waiting.pop(0)
        yield Made(made, (given.name,), (given.value,))


def _same_for_all(arguments: argparse.Namespace, manifest: GenerationManifest, seed: int) -> dict[str, Any]:
    """Label and truncated latent of a film."""
    same: dict[str, Any] = {"label": arguments.label[0]} if arguments.label else {}
    if arguments.truncation is not None and manifest.latent is not None:
        same["latent"] = draw_latents(manifest.latent, seed, [0], arguments.truncation)[0]
    return same
