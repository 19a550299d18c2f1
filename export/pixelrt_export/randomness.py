"""Randomness inside a network: found while the network runs, and replaced by numbers that are given.

PyTorch's random functions are caught where they are called, in the run of the original as well as while
torch.export follows it, so that both take the same numbers from the same inputs; see `stand_ins`. Every other
random function is refused, whoever calls it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from pixelrt.errors import ExportError
from pixelrt.manifest import NoiseDistribution
from pixelrt_export.noise import Draw, Noise
from pixelrt_export.place import Place, place
from pixelrt_export.stand_ins import STAND_INS, Take, refuse_idle_dropout

_ADVICE = (
    "draw with torch.randn, torch.rand, torch.normal, torch.bernoulli or dropout, of which PixelRT makes "
    "inputs, or take the numbers as a latent"
)
_INSIDE = (
    "TorchScript calls it, or another function of PyTorch, where nothing can take its place; export the "
    "PyTorch module itself, and draw the numbers in its forward()"
)


# --- what is caught -------------------------------------------------------------------------------


class GivenNoise(TorchFunctionMode):
    """While it is active, the random functions return what `take` gives.

    Args:
        take: Gives the numbers, draw by draw.
        must_drop: Whether dropout that is switched off is an error.
    """

    def __init__(self, take: Take, *, must_drop: bool = False) -> None:
        super().__init__()
        self.take = take
        self.must_drop = must_drop

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call a function of PyTorch, or what stands in for it."""
        given = dict(kwargs or {})
        stand_in = STAND_INS.get(getattr(func, "overloadpacket", func))
        if stand_in is None:
            return func(*args, **given)
        _refuse_options(func, given)
        if self.must_drop:
            refuse_idle_dropout(stand_in, args, given)
        return stand_in(self.take, *args, **given)


def _refuse_options(func: Any, given: Mapping[str, Any]) -> None:
    if given.get("generator") is not None:
        raise ExportError(
            f"{func.__name__} draws from a generator of its own (generator=..., {place()}). If the numbers "
            "are always the same, make them once in __init__ (register_buffer); if not, leave generator out, "
            "and PixelRT makes them an input"
        )
    if given.get("out") is not None:
        raise ExportError(f"{func.__name__} writes to out=... ({place()}); use the value that it returns")


# --- what is not --------------------------------------------------------------------------------------


class _Guard(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes operators that draw random numbers, whatever called them: those that have no stand-in."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.drawn: list[tuple[Any, Place]] = []
        """Operators, and where they were called. Raising would lose its type in TorchScript."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call an operator."""
        before = torch.get_rng_state() if torch.Tag.nondeterministic_seeded in func.tags else None
        with torch._C.DisableTorchFunction():  # what comes from elsewhere than Python has no stand-in
            result = func(*args, **(kwargs or {}))
        own = (kwargs or {}).get("generator") is not None
        # attention has the tag too, and draws nothing without dropout
        if before is not None and (own or not torch.equal(before, torch.get_rng_state())):
            self.drawn.append((func.overloadpacket, place()))
        return result


@contextmanager
def nothing_random(name: str) -> Iterator[None]:
    """Refuse random numbers that have no stand-in: those of other operators, of Python and of NumPy.

    Args:
        name: What to call the network in messages.

    Raises:
        ExportError: If some are drawn; the message says by what and, where it can, on which line.
    """
    before = _states()
    guard = _Guard()
    with guard:
        yield
    for operator, where in guard.drawn:
        raise ExportError(
            f"{name} draws random numbers by {operator.__name__} ({where}), which cannot become an input: "
            f"{_INSIDE if operator in STAND_INS else _ADVICE}"
        )
    for kind, state in _states().items():
        if state != before[kind]:
            raise ExportError(
                f"{name} draws random numbers by {kind}, which cannot become an input: {_ADVICE}"
            )


def _states() -> dict[str, bytes]:
    """The state of every generator that can be asked, by its name for messages."""
    numpy_state = cast("tuple[Any, ...]", np.random.get_state())  # noqa: NPY002 - the network's own
    return {
        "Python's random": repr(random.getstate()).encode(),
        "numpy.random": numpy_state[1].tobytes() + str(numpy_state[2:]).encode(),
        "torch.manual_seed, or a function that is not seen": torch.get_rng_state().numpy().tobytes(),
    }


# --- the draws of a network ----------------------------------------------------------------------


def drawn_by(run: Callable[[], object], name: str, *, must_drop: bool = False) -> tuple[Draw, ...]:
    """Run a network, and note what it draws.

    Args:
        run: Runs it once.
        name: What to call it in messages.
        must_drop: Whether dropout was asked for, so that none may be switched off.

    Raises:
        ExportError: If it draws numbers that cannot become an input, or does not drop although it must.
    """
    generator = np.random.default_rng(0)
    before = torch.get_rng_state()
    draws: list[Draw] = []

    def take(distribution: NoiseDistribution, shape: Sequence[int], what: str) -> Tensor:
        here = place()
        if not torch.equal(torch.get_rng_state(), before):
            raise ExportError(
                f"{name} seeds its random numbers itself ({what}, {here}), so that they are always the same; "
                "make them once in __init__ (register_buffer)"
            )
        named = f"{what} in {here.layer}" if here.layer else what
        draws.append(Draw(distribution, tuple(map(int, shape)), named, str(here)))
        fill = generator.standard_normal if distribution == "normal" else generator.random
        return torch.from_numpy(fill(tuple(shape), np.float32))

    with nothing_random(name), GivenNoise(take, must_drop=must_drop):
        run()
    return tuple(draws)


@contextmanager
def drawing(noise: Sequence[Noise], values: Sequence[Tensor], name: str) -> Iterator[None]:
    """Let a network draw the values of its inputs of noise.

    Args:
        noise: The inputs, in the order in which the network draws.
        values: float32[batch, *size] of each.
        name: What to call the network in messages.

    Raises:
        ExportError: If it draws something else than it did in `drawn_by`.
    """
    left = list(zip(noise, values, strict=True))

    def take(distribution: NoiseDistribution, shape: Sequence[int], what: str) -> Tensor:
        if not left or left[0][0].info.distribution != distribution:
            raise ExportError(_other_draws(name))
        one, value = left.pop(0)
        return one.drawn(value)

    with GivenNoise(take):
        yield
    if left:
        raise ExportError(_other_draws(name))


@contextmanager
def distributions_unchecked() -> Iterator[None]:
    """Let `torch.distributions` not look at their parameters, whose values torch.export does not know."""
    before = Distribution._validate_args
    Distribution.set_default_validate_args(False)
    try:
        yield
    finally:
        Distribution.set_default_validate_args(before)


def _other_draws(name: str) -> str:
    return (
        f"{name} does not always draw the same random numbers: forward() decides by values what it draws "
        "(an if, or a loop); draw the numbers in any case, and choose with torch.where"
    )
