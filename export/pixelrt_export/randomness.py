"""Randomness inside a network: found while the network runs, and replaced by numbers that are given.

PyTorch's random functions are caught where they are called, in the run of the original as well as while
torch.export follows it, so that both take the same numbers from the same inputs:

    torch.randn, rand, normal, randn_like, rand_like    noise, normal or uniform
    torch.bernoulli, dropout, dropout1d to 3d           uniform noise, compared with the probability
    Tensor.normal_, uniform_, bernoulli_                the same, written into the tensor

Every other random function is refused, whoever calls it.
"""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.fx import GraphModule
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from pixelrt.errors import ExportError
from pixelrt.manifest import NoiseDistribution
from pixelrt_export.noise import Draw, Noise

Take = Callable[[NoiseDistribution, Sequence[int], str], Tensor]
"""From distribution, shape and what is drawn to float32 of this shape."""

_TORCH, _HERE = Path(torch.__file__).parent, Path(__file__).parent
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
    """

    def __init__(self, take: Take) -> None:
        super().__init__()
        self.take = take

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call a function of PyTorch, or what stands in for it."""
        given = dict(kwargs or {})
        stand_in = _STAND_INS.get(getattr(func, "overloadpacket", func))
        if stand_in is None:
            return func(*args, **given)
        _refuse_options(func, given)
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


def _randn(take: Take, *size: Any, **options: Any) -> Tensor:
    return _typed(take("normal", _shape(size, options), "randn"), options)


def _rand(take: Take, *size: Any, **options: Any) -> Tensor:
    return _typed(take("unit", _shape(size, options), "rand"), options)


def _randn_like(take: Take, tensor: Tensor, **options: Any) -> Tensor:
    return _typed(take("normal", tensor.shape, "randn_like"), {"dtype": tensor.dtype, **_set(options)})


def _rand_like(take: Take, tensor: Tensor, **options: Any) -> Tensor:
    return _typed(take("unit", tensor.shape, "rand_like"), {"dtype": tensor.dtype, **_set(options)})


def _normal(take: Take, mean: Any = 0.0, std: Any = 1.0, size: Any = None, **options: Any) -> Tensor:
    if size is None:
        size = torch.broadcast_shapes(*(value.shape for value in (mean, std) if isinstance(value, Tensor)))  # type: ignore[no-untyped-call]
    return cast("Tensor", _typed(take("normal", size, "normal"), options) * std + mean)


def _normal_in_place(take: Take, tensor: Tensor, mean: float = 0.0, std: float = 1.0, **_: Any) -> Tensor:
    return tensor.copy_(take("normal", tensor.shape, "normal_") * std + mean)


def _uniform_in_place(take: Take, tensor: Tensor, *limits: float, **options: float) -> Tensor:
    low, high = (*limits, *(0.0, 1.0)[len(limits) :])
    low, high = options.get("from", low), options.get("to", high)
    return tensor.copy_(take("unit", tensor.shape, "uniform_") * (high - low) + low)


def _bernoulli(take: Take, tensor: Tensor, p: Any = None, **_: Any) -> Tensor:
    probability = tensor if p is None else p
    return (take("unit", tensor.shape, "bernoulli") < probability).to(tensor.dtype)


def _bernoulli_in_place(take: Take, tensor: Tensor, p: Any = 0.5, **_: Any) -> Tensor:
    return tensor.copy_(take("unit", tensor.shape, "bernoulli_") < p)


def _dropout(take: Take, value: Tensor, p: float = 0.5, *rest: bool, **options: bool) -> Tensor:
    return _dropped(take, value, p, value.shape, "dropout", _training(rest, options))


def _channel_dropout(take: Take, value: Tensor, p: float = 0.5, *rest: bool, **options: bool) -> Tensor:
    """Whole channels of float[N, C, ...] are dropped."""
    training = _training(rest, options)
    if value.ndim < 3 and training[0] and p > 0:
        raise ExportError(
            f"dropout of channels got {list(value.shape)} ({place()}); [batch, channels, ...] was expected"
        )
    shape = (*value.shape[:2], *(1,) * (value.ndim - 2))
    return _dropped(take, value, p, shape, "channel dropout", training)


def _native_dropout(take: Take, value: Tensor, p: float, train: bool | None) -> tuple[Tensor, Tensor]:
    kept = torch.ones_like(value)
    dropped = _dropped(take, kept, p, value.shape, "dropout", (train is not False, False))
    return value * dropped, dropped > 0


def _training(rest: Sequence[bool], options: Mapping[str, bool]) -> tuple[bool, bool]:
    """Whether dropout is active, and whether it changes its input."""
    given = dict(zip(("training", "inplace"), rest, strict=False)) | dict(options)
    return given.get("train", given.get("training", True)), given.get("inplace", False)


def _dropped(
    take: Take, value: Tensor, p: float, shape: Sequence[int], what: str, training: tuple[bool, bool]
) -> Tensor:
    active, in_place = training
    if not active or p == 0:
        return value
    if p == 1:
        scale = torch.zeros_like(value)
    else:
        kept = take("unit", shape, f"{what} (p = {p:g})") >= p
        scale = kept.to(value.dtype) / (1 - p)
    return value.mul_(scale) if in_place else value * scale


def _shape(size: tuple[Any, ...], options: dict[str, Any]) -> Sequence[int]:
    size = size or (options["size"],)
    return cast(
        "Sequence[int]", size[0] if len(size) == 1 and not isinstance(size[0], int | torch.SymInt) else size
    )


def _typed(noise: Tensor, options: Mapping[str, Any]) -> Tensor:
    dtype = options.get("dtype") or torch.get_default_dtype()
    if not dtype.is_floating_point:
        raise ExportError(f"random numbers of {dtype} are drawn ({place()}); floats were expected")
    return noise.to(dtype)


def _set(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


_aten = torch.ops.aten
_STAND_INS: dict[Any, Callable[..., Any]] = {
    **dict.fromkeys((torch.randn, _aten.randn), _randn),
    **dict.fromkeys((torch.rand, _aten.rand), _rand),
    **dict.fromkeys((torch.randn_like, _aten.randn_like), _randn_like),
    **dict.fromkeys((torch.rand_like, _aten.rand_like), _rand_like),
    **dict.fromkeys((torch.normal, _aten.normal), _normal),
    **dict.fromkeys((Tensor.normal_, _aten.normal_), _normal_in_place),
    **dict.fromkeys((Tensor.uniform_, _aten.uniform_), _uniform_in_place),
    **dict.fromkeys((torch.bernoulli, Tensor.bernoulli, _aten.bernoulli), _bernoulli),
    **dict.fromkeys((Tensor.bernoulli_, _aten.bernoulli_), _bernoulli_in_place),
    **dict.fromkeys((functional.dropout, torch.dropout, _aten.dropout), _dropout),
    **dict.fromkeys((torch.native_dropout, _aten.native_dropout), _native_dropout),
    **dict.fromkeys(
        (
            functional.dropout1d,
            functional.dropout2d,
            functional.dropout3d,
            torch.feature_dropout,
            _aten.feature_dropout,
        ),
        _channel_dropout,
    ),
}
"""By PyTorch's function, or by its operator, which programs of torch.export call."""


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
            f"{_INSIDE if operator in _STAND_INS else _ADVICE}"
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


# --- where ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Place:
    """What of a network is running."""

    layer: str = ""
    """Path of the innermost module: `up.0.4`; empty for the network itself."""
    line: str = ""
    """Of the network's source: `model.py:12`; empty where it has none, as in saved programs."""

    def __str__(self) -> str:
        parts = [f"in {self.layer}"] * bool(self.layer) + [f"at {self.line}"] * bool(self.line)
        return ", ".join(parts) or "in forward()"


def place() -> Place:
    """Where the network is that runs inside a module of this package (which has it as `network`)."""
    layer: nn.Module | None = None
    line = ""
    frame = inspect.currentframe()
    while frame is not None:
        owner, source = frame.f_locals.get("self"), Path(frame.f_code.co_filename)
        if isinstance(owner, nn.Module) and not isinstance(owner, GraphModule):
            network = getattr(owner, "network", None)
            if source.parent == _HERE and isinstance(network, nn.Module):
                paths = {id(part): path for path, part in network.named_modules()}
                return Place(paths.get(id(layer), ""), line)
            layer = layer or owner
        if not line and _TORCH not in source.parents and source.parent != _HERE and source.is_file():
            line = f"{source.name}:{frame.f_lineno}"
        frame = frame.f_back
    return Place()


# --- the draws of a network ----------------------------------------------------------------------


def drawn_by(run: Callable[[], object], name: str) -> tuple[Draw, ...]:
    """Run a network, and note what it draws.

    Args:
        run: Runs it once.
        name: What to call it in messages.

    Raises:
        ExportError: If it draws numbers that cannot become an input.
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

    with nothing_random(name), GivenNoise(take):
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
