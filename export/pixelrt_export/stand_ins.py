"""What stands in for PyTorch's random functions: the same, from numbers that are given.

    torch.randn, rand, normal, randn_like, rand_like    noise, normal or uniform
    torch.bernoulli, dropout, dropout1d to 3d           uniform noise, compared with the probability
    Tensor.normal_, uniform_, bernoulli_                the same, written into the tensor

Each is called like PyTorch's function, after what gives the numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional

from pixelrt.errors import ExportError
from pixelrt.manifest import NoiseDistribution
from pixelrt_export.place import place

Take = Callable[[NoiseDistribution, Sequence[int], str], Tensor]
"""From distribution, shape and what is drawn to float32 of this shape."""


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


def refuse_idle_dropout(
    stand_in: Callable[..., Any], args: Sequence[Any], options: Mapping[str, Any]
) -> None:
    """Refuse a call of dropout that is switched off.

    Args:
        stand_in: What stands in for the function that is called.
        args: What it is called with.
        options: The same, by name.

    Raises:
        ExportError: If it is dropout that would drop something in training.
    """
    if stand_in not in (_dropout, _channel_dropout, _native_dropout):
        return
    p = options.get("p", args[1] if len(args) > 1 else 0.5)
    active, _ = _training(args[2:], options)
    if active is False and p > 0:
        raise ExportError(
            f'as_in_training = ["dropout"]: functional dropout (p = {p:g}, {place()}) is switched off by its '
            "own argument, as training=self.training does; write training=True there, or make it an "
            "nn.Dropout layer"
        )


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
STAND_INS: dict[Any, Callable[..., Any]] = {
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
