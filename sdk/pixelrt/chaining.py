"""Generators and segmenters one after the other: mask to image to mask.

with pixelrt.chain(painter, segmenter) as painted_and_seen:
painting, seen = painted_and_seen(mask)
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pixelrt.closing import Closing
from pixelrt.errors import InputError
from pixelrt.generation.generated import Generated
from pixelrt.generation.generator import GenerationTicket, Generator
from pixelrt.generation.streaming import in_order
from pixelrt.generation.values import check_classes, with_article
from pixelrt.segmentation import Segmentation, SegmentationTicket, Segmenter
from pixelrt.strict import type_of

Step = Segmenter | Generator
Result = Segmentation | Generated


@dataclass(frozen=True, slots=True, eq=False)
class Chained:
    """What each step gave; where a result stayed on the GPU, as its `device_images` or `device_mask`."""

    results: tuple[Any, ...]
    """A `Generated` or a `Segmentation` for each step, in order."""
    total_ms: float
    """From the call to the last result."""

    def __iter__(self) -> Iterator[Any]:
        return iter(self.results)

    def __len__(self) -> int:
        return len(self.results)

    def __getitem__(self, index: int) -> Any:
        return self.results[index]

    @property
    def last(self) -> Any:
        """What came out in the end."""
        return self.results[-1]


class ChainTicket:
    """A chain's last step on its way; see `Chain.submit`. It belongs to the thread that uses its chain."""

    def __init__(self, before: Sequence[Result], ticket: Any, began_s: float) -> None:
        self._before = tuple(before)
        self._ticket: SegmentationTicket | GenerationTicket = ticket
        self._began_s = began_s
        self._result: Chained | None = None

    @property
    def done(self) -> bool:
        """Whether `result` returns without waiting for the GPU."""
        return self._result is not None or self._ticket.done

    def result(self) -> Chained:
        """Wait for the results; any number of times.

        Raises:
            DeviceError: If the GPU failed.
        """
        if self._result is None:
            last = self._ticket.result()
            total_ms = (time.perf_counter() - self._began_s) * 1e3
            self._result = Chained((*self._before, last), total_ms)
        return self._result


class Chain(Closing):
    """Steps one after the other. Use `pixelrt.chain`.

    Belongs to one thread at a time, as its steps do, which it owns: closing it closes them.

    Attributes:
        steps: The segmenters and generators.
        on_device: For each step but the last, whether its result stays on the GPU for the next.
    """

    def __init__(self, steps: Sequence[Step], *, on_device: bool | None = None) -> None:
        _check_steps(steps)
        self.steps = tuple(steps)
        self._asked = on_device
        pairs = list(itertools.pairwise(steps))
        for number, (first, second) in enumerate(pairs, start=1):
            where = f"between step {number} and step {number + 1}"
            _check_link(first, second, where)
            if on_device and (reason := _why_by_the_host(first, second)):
                raise InputError(f"{where} the result cannot stay on the GPU: {reason}; leave on_device out")
        self.on_device = tuple(
            on_device is not False and not _why_by_the_host(first, second) for first, second in pairs
        )

    def __repr__(self) -> str:
        return f"Chain({', '.join(map(repr, self.steps))})"

    @property
    def slots(self) -> int:
        """How many runs of the last step may be on their way at once; 1 on the CPU."""
        return self.steps[-1].slots

    def close(self) -> None:
        """Free the steps."""
        for step in self.steps:
            step.close()

    def clone(self) -> Chain:
        """The same for another thread, made before that thread starts."""
        return Chain([step.clone() for step in self.steps], on_device=self._asked)

    def __call__(self, given: Any = None, *, seed: int = 0, **inputs: Any) -> Chained:
        """Run all steps on one input.

        Args:
            given: What the first step takes without a name: a frame, a mask, ...
            seed: Of latents and noise of all generators.
            **inputs: What the first step takes by its name, if it is a generator.

        Raises:
            InputError: If the input cannot be used.
            DeviceError: If a step fails.
        """
        return self.submit(given, seed=seed, **inputs).result()

    def submit(self, given: Any = None, *, seed: int = 0, **inputs: Any) -> ChainTicket:
        """Run all steps but the last, start that one, and return.

        Raises:
            InputError: If the input cannot be used.
            DeviceError: If a step fails.
        """
        began = time.perf_counter()
        if inputs and isinstance(self.steps[0], Segmenter):
            raise InputError(f"the first step is a segmenter and takes a frame, {sorted(inputs)} came too")
        before: list[Result] = []
        for index, step in enumerate(self.steps):
            stays = index < len(self.on_device) and self.on_device[index]
            if isinstance(step, Generator):
                ticket: Any = step.submit(given, seed=seed, on_device=stays, **inputs)
            else:
                ticket = step.submit(given, on_device=stays)
            if index == len(self.steps) - 1:
                break
            before.append(ticket.result())
            given, inputs = _handed(before[-1], self.steps[index + 1]), {}
        return ChainTicket(before, ticket, began)

    def stream(self, given: Iterable[Any], *, seed: int = 0) -> Iterator[Chained]:
        """Run all steps on each input that comes, in order, as soon as it is there.

        Raises:
            InputError: If one cannot be used.
            DeviceError: If a step fails.
        """
        return in_order(lambda each: self.submit(each, seed=seed), given, self.slots)


def chain(first: Step, second: Step, *others: Step, on_device: bool | None = None) -> Chain:
    """Put generators and segmenters one after the other, where what one gives is what the next one takes.

    A generator's image goes to a segmenter, or to a generator that takes an image; a segmenter's mask goes to
    a generator that paints masks. Where both run on one GPU, it stays there in between.

    Args:
        first: Takes what the chain takes.
        second: Takes what the first gives.
        *others: And so on.
        on_device: True insists on the GPU between the steps, False takes the way through the host, which
            leaves every result on it; None takes the GPU where that is possible.

    Raises:
        InputError: If a step cannot take what the one before gives: another kind, size, colour order, number
            of channels, other classes, or another GPU.
    """
    return Chain([first, second, *others], on_device=on_device)


def _check_steps(steps: Sequence[object]) -> None:
    for number, step in enumerate(steps, start=1):
        if not isinstance(step, (Segmenter, Generator)):
            raise InputError(
                f"step {number} is {type_of(step)}, expected a Segmenter or a Generator, as "
                "pixelrt.load makes them"
            )
    if len({id(step) for step in steps}) < len(steps):
        raise InputError("the same step came twice; give the second place its clone()")


def _check_link(first: Step, second: Step, where: str) -> None:
    try:
        if isinstance(first, Generator):
            _check_image_link(first, second)
        else:
            _check_mask_link(first, second)
        _check_gpus(first, second)
    except InputError as problem:
        raise InputError(f"{where}: {problem}") from problem


def _check_image_link(first: Generator, second: Step) -> None:
    """From a generator's image."""
    output = first.bundle.generation.output
    if isinstance(second, Segmenter):
        taken, color = second.bundle.segmentation.preprocess, second.color
    else:
        image = second.bundle.generation.image
        if image is None:
            raise InputError(f"an image comes, this generator takes {', '.join(second.takes)}")
        _check_nothing_else(second, "image")
        taken, color = image, second.input_color
    if output.channels != taken.channels:
        raise InputError(f"an image of {output.channels} channels comes, {taken.channels} are taken")
    if output.channels == 3 and first.color != color:
        raise InputError(f"the image is {first.color}, {color} is taken; load both with the same color")
    _check_range(second, output.size, ("height", "width"))


def _check_mask_link(first: Segmenter, second: Step) -> None:
    """From a segmenter's mask."""
    head = first.bundle.segmentation.heads[0]
    if "mask" not in head.outputs:
        raise InputError(f"head {head.name!r} emits no mask; export it with 'mask' among its outputs")
    mask = second.bundle.generation.mask if isinstance(second, Generator) else None
    if not isinstance(second, Generator) or mask is None:
        takes = ", ".join(second.takes) if isinstance(second, Generator) else "a frame"
        raise InputError(
            f"a mask comes, the next step takes {takes}; masks are for generators that paint them"
        )
    _check_nothing_else(second, "mask")
    check_classes(head.classes, mask.classes)
    _check_range(second, first.bundle.segmentation.preprocess.size, ("mask_height", "mask_width"))


def _check_nothing_else(generator: Generator, given: str) -> None:
    """Latents and noise are drawn; what is not can reach the first step alone."""
    missing = [name for name in generator.takes if name in ("label", "mask", "image") and name != given]
    if missing:
        raise InputError(
            f"this generator takes {with_article(missing[0])} too, which the step before does not give; call "
            "both yourself, one after the other"
        )


def _check_range(step: Step, size: tuple[int, int], names: tuple[str, str]) -> None:
    if step.session.info.device == "cpu":
        return  # resized on the host
    for name, side in zip(names, size, strict=True):
        axis = step.bundle.manifest.axes[name]
        if not axis.min <= side <= axis.max:
            raise InputError(
                f"{size[0]}x{size[1]} (height x width) comes, {name} may be {axis.min} to {axis.max}"
            )


def _check_gpus(first: Step, second: Step) -> None:
    here, there = first.session.info.device, second.session.info.device
    if "cpu" not in (here, there) and here != there:
        raise InputError(f"one runs on {here}, the next on {there}; load both with the same device")


def _why_by_the_host(first: Step, second: Step) -> str:
    """Why a result cannot stay on the GPU; empty if it can."""
    if "cpu" in (first.session.info.device, second.session.info.device):
        return "not both steps run on a GPU"
    if isinstance(first, Generator) and (first.swaps_color or second.swaps_color):
        return "the colour order is changed on the host"
    return ""


def _handed(result: Result, taker: Step) -> Any:
    """What the next step takes of a result."""
    if isinstance(result, Segmentation):
        return result
    if len(result) != 1:
        raise InputError(f"{len(result)} images came at once, a chain takes one after the other; see stream")
    if result.device_images is None:
        return result.image
    if isinstance(taker, Generator):
        return result.device_images
    return result.device_images.reshaped(result.device_images.shape[1:])
