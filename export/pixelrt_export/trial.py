"""Tries a network out before it is exported, because its own errors are clearer than an exporter's."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pixelrt.errors import ExportError
from pixelrt_export.inputs import IMAGE, SPATIAL, NetworkInput, NetworkSpec, batch_option
from pixelrt_export.quiet import essential

Runner = Callable[[Mapping[str, Tensor]], "tuple[Tensor, ...]"]
"""From the values of the inputs by name, batch first, to the tensors of the heads."""

_STRIDES = (2, 4, 8, 16, 32, 64, 128)
_TOLERANCE = 1e-3
"""Of the largest output: what another order of adding may change."""
_CHANNELS = re.compile(r"expected input\[1, (\d+), (\d+), (\d+)\] to have (\d+) channels")

_RANDOM = {
    "segmentation": (
        "gives two results for the same image: {drawn} is still active; call it with "
        "training=self.training in forward(), or save the network again after model.eval()"
    ),
    "generation": (
        "gives two results for the same inputs: it draws random numbers out of sight, or keeps something "
        "from one call to the next; draw them with PyTorch in forward() of a live module or an entry point "
        "(torch.randn_like, dropout), or take them as a latent"
    ),
}
_MIXED = {
    "segmentation": (
        "gives another result for an image when a second one is in the batch: batch norm in training mode, "
        "say; save the network again after model.eval()"
    ),
    "generation": (
        "gives another result for a sample when a second one is in the batch: batch norm in training mode, "
        'say. as_in_training = ["batch_norm"] takes the statistics of each image alone; with '
        f"{batch_option('generation')} nothing can mix"
    ),
}


@dataclass(frozen=True, slots=True)
class Found:
    """What a trial found out."""

    dynamic_batch: bool
    """Whether batches are wanted, and the network treats each image of one as if it were alone."""


def try_out(
    run: Runner,
    inputs: Sequence[NetworkInput],
    spec: NetworkSpec,
    name: str,
    drawn: Callable[[], str] = lambda: "",
) -> Found:
    """Run a network at the size it is exported for.

    Args:
        run: The network.
        inputs: Those of `spec`, and noise where there is some.
        spec: What is wanted of it.
        name: What to call it in messages.
        drawn: Names what draws random numbers, where that is known.

    Raises:
        ExportError: If it does not run at this size (sizes that would work are named) or with this number of
            channels, gives two results for one image (dropout), or mixes the images of a batch although
            batches are wanted.
    """
    two = samples(inputs)
    one = {key: value[:1] for key, value in two.items()}
    first = _first(run, one, spec, name)
    batched = _with_two(run, two)
    again = run(one) if batched is None else tuple(tensor[:1] for tensor in batched)
    if not _close(again, first):
        mixed = batched is not None and _close(run(one), first)
        if not mixed or spec.max_batch > 1 or spec.task == "segmentation":
            reason = (_MIXED if mixed else _RANDOM)[spec.task]
            raise ExportError(f"{name} {reason.replace('{drawn}', drawn() or 'dropout or noise')}")
    if batched is None and spec.max_batch > 1:
        _first(run, {key: value[1:] for key, value in two.items()}, spec, name)
        raise ExportError(_one_at_a_time(inputs, spec, name))
    return Found(dynamic_batch=batched is not None and spec.max_batch > 1)


def _one_at_a_time(inputs: Sequence[NetworkInput], spec: NetworkSpec, name: str) -> str:
    what = "image" if spec.task == "segmentation" else "sample"
    noise = ", ".join(one.name for one in inputs[len(spec.inputs) :])
    drawn = f", or draws random numbers ({noise}) without the batch first" if noise else ""
    return (
        f"{name} takes one {what} at a time: it was saved with a fixed batch, or writes the batch size into "
        f"forward() as a number{drawn}. Save it with a dynamic batch (-1 or {inputs[0].name}.shape[0] in "
        f"reshape{' and torch.randn' if noise else ''}), or set {batch_option(spec.task)}"
    )


def samples(inputs: Sequence[NetworkInput]) -> dict[str, Tensor]:
    """Two different samples of each input, batch first."""
    generator = torch.Generator().manual_seed(0)
    return {one.name: one.two(generator) for one in inputs}


def _first(run: Runner, feeds: Mapping[str, Tensor], spec: NetworkSpec, name: str) -> tuple[Tensor, ...]:
    try:
        return run(feeds)
    except ExportError:
        raise
    except Exception as problem:
        wanted = _CHANNELS.search(str(problem))
        image = feeds.get(IMAGE)
        if wanted and image is not None and tuple(map(int, wanted.groups()[:3])) == image.shape[1:]:
            raise ExportError(
                f"{name} takes {wanted[4]} channels, and mean and std are given for {image.shape[1]}; give "
                "one value of each per channel"
            ) from problem
        sizes = working_sizes(run, feeds, spec)
        if sizes and spec.size:
            spelled = " or ".join(f"{height}x{width}" for height, width in sizes)
            raise ExportError(
                f"{name} does not run at {spec.size[0]}x{spec.size[1]} (H x W), its size must be a multiple "
                f"of its stride; the nearest that work: {spelled}. The reason given: {essential(problem)}"
            ) from problem
        taken = ", ".join(_as_given(one) for one in spec.inputs)
        if spec.task == "segmentation":
            advice = ", and at no size near it; check size, channels and forward()"
        else:
            sections = ", ".join(f"[{one.name}]" for one in spec.inputs)
            advice = f"; check size, form and input in {sections}, and forward()"
        raise ExportError(
            f"{name} does not run on {taken}{advice}. The reason given: {essential(problem)}"
        ) from problem


def _as_given(one: NetworkInput) -> str:
    """An input as messages write it, with the form that a label or a mask has, and the other one."""
    if one.dtype == "int64":
        low, high = (round(limit) for limit in one.range)
        return f'{one.text} (form = "index", ids {low} to {high - 1}; the other form is "one_hot")'
    return f'{one.text} (form = "one_hot"; the other form is "index")' if one.one_hot else one.text


def _with_two(run: Runner, feeds: Mapping[str, Tensor]) -> tuple[Tensor, ...] | None:
    """Outputs for a batch of two different samples; None if the network refuses a batch."""
    try:
        outputs = run(feeds)
    except Exception:  # noqa: BLE001 - any failure of a foreign network answers the question
        return None
    return outputs if all(tensor.shape[0] == 2 for tensor in outputs) else None


def outputs_per_head(
    run: Runner | None,
    feeds: Mapping[str, NDArray[Any]],
    heads: Sequence[str],
    inputs: Sequence[NetworkInput],
) -> dict[str, NDArray[np.float32]]:
    """Run samples one by one, and join the results by name of the head.

    One by one, because a saved program may take no batch, and because memory stays small.

    Args:
        run: The network; None before it is known.
        feeds: By the name of the input, batch first.
        heads: Names of the heads, in the order of the outputs.
        inputs: What the network takes, noise included.

    Raises:
        RuntimeError: If there is no network to run yet.
        ValueError: If the feeds are not those of the inputs.
    """
    if run is None:
        raise RuntimeError("reference() needs to know the heads: call to_onnx() first")
    values = {one.name: _checked(one, feeds) for one in inputs}
    counts = {len(value) for value in values.values()}
    if len(counts) != 1:
        raise ValueError(f"the feeds have batches of {sorted(counts)}; one number was expected")
    per_sample = [
        run({name: torch.from_numpy(value[index : index + 1]) for name, value in values.items()})
        for index in range(counts.pop())
    ]
    return {
        head: np.concatenate([tensors[index].numpy() for tensors in per_sample])
        for index, head in enumerate(heads)
    }


def _checked(one: NetworkInput, feeds: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    value = feeds.get(one.name)
    if value is None or value.dtype != one.dtype or value.shape[1:] != one.size:
        came = "nothing" if value is None else f"{value.dtype}{list(value.shape)}"
        raise ValueError(
            f"{came} came for the input {one.name!r}; {one.dtype}[N, *{list(one.size)}] was expected"
        )
    return np.ascontiguousarray(value)


def working_sizes(run: Runner, feeds: Mapping[str, Tensor], spec: NetworkSpec) -> list[tuple[int, int]]:
    """The nearest sizes at which the network runs, up to two: the next smaller and the next larger."""
    if spec.size is None:
        return []
    for stride in _STRIDES:
        works = [size for size in _multiples(spec.size, stride) if _runs(run, _at(feeds, size))]
        if works:
            return works
    return []


def _at(feeds: Mapping[str, Tensor], size: tuple[int, int]) -> dict[str, Tensor]:
    """The feeds with image and mask at another size."""
    return {
        name: torch.zeros(*value.shape[:-2], *size, dtype=value.dtype) if name in SPATIAL else value
        for name, value in feeds.items()
    }


def _multiples(size: tuple[int, int], stride: int) -> Iterator[tuple[int, int]]:
    """Both sides rounded down, then both rounded up."""
    down = tuple(side // stride * stride for side in size)
    up = tuple(-(-side // stride) * stride for side in size)
    for height, width in dict.fromkeys([down, up]):
        if height and width and (height, width) != size:
            yield height, width


def _runs(run: Runner, feeds: Mapping[str, Tensor]) -> bool:
    try:
        run(feeds)
    except Exception:  # noqa: BLE001 - any failure of a foreign network answers the question
        return False
    return True


def _close(some: tuple[Tensor, ...], others: tuple[Tensor, ...]) -> bool:
    return all(_equal(one, other) for one, other in zip(some, others, strict=True))


def _equal(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape:
        return False
    if not bool(torch.isfinite(other).all()):
        return True  # a network that overflows here is judged where ranges are measured
    return bool(((one - other).abs() <= _TOLERANCE * other.abs().max() + 1e-6).all())
