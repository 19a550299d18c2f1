"""Tries a network out before it is exported, because its own errors are clearer than an exporter's."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pixelrt.errors import ExportError
from pixelrt_export.quiet import essential

Runner = Callable[[Tensor], "tuple[Tensor, ...]"]
"""From float32[N, C, H, W] to the tensors of the heads."""

_STRIDES = (2, 4, 8, 16, 32, 64, 128)
_TOLERANCE = 1e-3
"""Of the largest output: what another order of adding may change."""
_CHANNELS = re.compile(r"expected input\[1, (\d+), (\d+), (\d+)\] to have (\d+) channels")

_RANDOM = (
    "gives two results for the same image: dropout or noise is still active; call it with "
    "training=self.training in forward(), or save the network again after model.eval()"
)
_MIXED = (
    "gives another result for an image when a second one is in the batch: batch norm in training mode, say; "
    "save the network again after model.eval()"
)


class Wanted(Protocol):
    """The part of a NetworkSpec that a trial needs."""

    @property
    def size(self) -> tuple[int, int]: ...  # noqa: D102
    @property
    def channels(self) -> int: ...  # noqa: D102
    @property
    def max_batch(self) -> int: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Found:
    """What a trial found out."""

    dynamic_batch: bool
    """Whether batches are wanted, and the network treats each image of one as if it were alone."""


def try_out(run: Runner, spec: Wanted, name: str) -> Found:
    """Run a network at the size it is exported for.

    Raises:
        ExportError: If it does not run at this size (sizes that would work are named) or with this number of
            channels, gives two results for one image (dropout), or mixes the images of a batch although
            batches are wanted.
    """
    image = torch.rand(1, spec.channels, *spec.size, generator=torch.Generator().manual_seed(0))
    first = _first(run, image, spec, name)
    batched = _with_two(run, image)
    again = run(image) if batched is None else tuple(tensor[:1] for tensor in batched)
    if not _close(again, first):
        mixed = batched is not None and _close(run(image), first)
        raise ExportError(f"{name} {_MIXED if mixed else _RANDOM}")
    if batched is None and spec.max_batch > 1:
        raise ExportError(
            f"{name} takes one image at a time: it was saved with a fixed batch, or writes the batch size "
            "into forward() as a number. Save it with a dynamic batch (-1 or image.shape[0] in reshape), or "
            "set batch = 1 in [input] (max_batch=1)"
        )
    return Found(dynamic_batch=batched is not None and spec.max_batch > 1)


def _first(run: Runner, image: Tensor, spec: Wanted, name: str) -> tuple[Tensor, ...]:
    try:
        return run(image)
    except ExportError:
        raise
    except Exception as problem:
        wanted = _CHANNELS.search(str(problem))
        if wanted and tuple(map(int, wanted.groups()[:3])) == image.shape[1:]:
            raise ExportError(
                f"{name} takes {wanted[4]} channels, and mean and std are given for {spec.channels}; give "
                "one value of each per channel"
            ) from problem
        sizes = working_sizes(run, spec)
        if sizes:
            spelled = " or ".join(f"{height}x{width}" for height, width in sizes)
            raise ExportError(
                f"{name} does not run at {spec.size[0]}x{spec.size[1]} (H x W), its size must be a multiple "
                f"of its stride; the nearest that work: {spelled}. The reason given: {essential(problem)}"
            ) from problem
        raise ExportError(
            f"{name} does not run on float32{list(image.shape)}, and at no size near it; check size, "
            f"channels and forward(). The reason given: {essential(problem)}"
        ) from problem


def _with_two(run: Runner, image: Tensor) -> tuple[Tensor, ...] | None:
    """Outputs for a batch of two different images; None if the network refuses a batch."""
    try:
        return run(torch.cat([image, 1 - image]))
    except Exception:  # noqa: BLE001 - any failure of a foreign network answers the question
        return None


def outputs_per_head(
    run: Runner | None, images: NDArray[np.float32], heads: tuple[str, ...]
) -> dict[str, NDArray[np.float32]]:
    """Run normalised images float32[N, C, H, W] one by one, and join the results by name of the head.

    One by one, because a saved program may take no batch, and because memory stays small.

    Raises:
        RuntimeError: If there is no network to run yet.
    """
    if run is None:
        raise RuntimeError("reference() needs to know the heads: call to_onnx() first")
    per_image = [run(torch.from_numpy(image[None])) for image in np.ascontiguousarray(images)]
    return {
        head: np.concatenate([tensors[index].numpy() for tensors in per_image])
        for index, head in enumerate(heads)
    }


def working_sizes(run: Runner, spec: Wanted) -> list[tuple[int, int]]:
    """The nearest sizes at which the network runs, up to two: the next smaller and the next larger."""
    for stride in _STRIDES:
        works = [size for size in _multiples(spec.size, stride) if _runs(run, spec.channels, size)]
        if works:
            return works
    return []


def _multiples(size: tuple[int, int], stride: int) -> Iterator[tuple[int, int]]:
    """Both sides rounded down, then both rounded up."""
    down = tuple(side // stride * stride for side in size)
    up = tuple(-(-side // stride) * stride for side in size)
    for height, width in dict.fromkeys([down, up]):
        if height and width and (height, width) != size:
            yield height, width


def _runs(run: Runner, channels: int, size: tuple[int, int]) -> bool:
    try:
        run(torch.zeros(1, channels, *size))
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
