"""Random numbers of a network as inputs: what was drawn, and the input that takes its place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from pixelrt.errors import ExportError
from pixelrt.manifest import NoiseDistribution, NoiseInfo
from pixelrt_export.inputs import NetworkInput, batch_option

TRIED: dict[NoiseDistribution, tuple[float, float]] = {"normal": (-2.0, 2.0), "unit": (0.0, 1.0)}
"""Ranges of the numbers for try-outs."""


@dataclass(frozen=True, slots=True)
class Draw:
    """Random numbers that a network drew while it ran."""

    distribution: NoiseDistribution
    shape: tuple[int, ...]
    what: str
    """As the manifest writes it: `dropout (p = 0.5) in up.0`."""
    where: str
    """The same with the line of the source, for messages."""


@dataclass(frozen=True, slots=True)
class Noise:
    """The input float32[batch, *size] that takes the place of a draw.

    A draw of shape [2 * batch, 8] becomes an input of size (2, 8): two rows for each sample.
    """

    info: NoiseInfo
    joined: bool = False
    """Whether batch and first axis of `info.size` are one axis in the network."""
    axis: int = 0
    """Where the batch is in the network."""
    shape: tuple[int, ...] | None = None
    """That of the network, where it knows no batch; only for batches of one."""

    @property
    def input(self) -> NetworkInput:
        """As an input of the network."""
        return NetworkInput(name=self.info.name, size=self.info.size, range=TRIED[self.info.distribution])

    def drawn(self, value: Tensor) -> Tensor:
        """The value of the input, float32[batch, *size], in the shape in which the network draws it."""
        if self.shape is not None:
            return value.reshape(self.shape)
        flat = value.flatten(0, 1) if self.joined else value
        return flat.movedim(0, self.axis) if self.axis else flat


def as_inputs(
    one: Sequence[Draw], two: Sequence[Draw] | None, max_batch: int, name: str
) -> tuple[Noise, ...]:
    """The inputs for what a network draws.

    Args:
        one: Drawn for a batch of one sample.
        two: Drawn for a batch of two; None if the network takes no batch.
        max_batch: Largest batch that will be used.
        name: What to call the network in messages.

    Raises:
        ExportError: If batches are wanted, and a draw does not grow with them.
    """
    batched = one if two is None else two
    if not _alike(one, batched):
        raise ExportError(
            f"{name} draws {_listed(one)} for one sample and {_listed(batched)} for two; the same draws were "
            "expected. Draw for the whole batch at once, as in torch.randn_like(x), and whatever the values "
            "are: torch.where chooses"
        )
    return tuple(
        _as_input(index, first, second.shape if two else None, max_batch, name)
        for index, (first, second) in enumerate(zip(one, batched, strict=True))
    )


def _alike(one: Sequence[Draw], two: Sequence[Draw]) -> bool:
    kinds = [[(draw.distribution, draw.what, len(draw.shape)) for draw in draws] for draws in (one, two)]
    return kinds[0] == kinds[1]


def _listed(draws: Sequence[Draw]) -> str:
    listed = ", ".join(f"{draw.what} {list(draw.shape)}" for draw in draws[:4])
    return (listed or "nothing") + ", ..." * (len(draws) > 4)


def _as_input(index: int, draw: Draw, two: tuple[int, ...] | None, max_batch: int, name: str) -> Noise:
    def info(size: Sequence[int]) -> NoiseInfo:
        return NoiseInfo(
            name=f"noise_{index}", size=tuple(size), distribution=draw.distribution, what=draw.what
        )

    shape = draw.shape
    axis = _batch_axis(shape, two)
    if axis is not None:
        rest = (*shape[:axis], *shape[axis + 1 :])
        joined = shape[axis] > 1 or not rest
        return Noise(info((shape[axis], *rest) if joined else rest), joined=joined, axis=axis)
    if max_batch == 1:
        return Noise(info(shape or (1,)), shape=shape)
    raise ExportError(
        f"{name} draws random numbers that are the same for the whole batch: {draw.what}, {list(shape)} for "
        f"a batch of one and {list(two or shape)} for a batch of two ({draw.where}); numbers for each sample "
        "were expected. Draw them with the batch first, as in torch.randn(x.shape[0], ...), or set "
        f"{batch_option('generation')}"
    )


def _batch_axis(one: tuple[int, ...], two: tuple[int, ...] | None) -> int | None:
    """Where the batch is in a draw; None if it has none.

    A draw whose first side is 1 whatever the batch, as in `torch.randn(1, channels, height, width)`, is
    broadcast by the network: there the batch can take the place of the 1. `torch.randn(1)` is one number for
    everything.
    """
    if two is None or two == one:
        return 0 if len(one) > 1 and one[0] == 1 else None
    grown = [axis for axis, (some, more) in enumerate(zip(one, two, strict=True)) if some != more]
    return grown[0] if len(grown) == 1 and two[grown[0]] == 2 * one[grown[0]] else None
