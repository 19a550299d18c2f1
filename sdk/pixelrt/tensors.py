"""Names, types and shapes of what goes into a network and comes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelrt.errors import InputError
from pixelrt.manifest import Tensor
from pixelrt.strict import type_of

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """An input or output of a session."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | str, ...]
    """Numbers, and names of axes whose size may vary."""

    @classmethod
    def of(cls, tensor: Tensor) -> TensorSpec:
        """The specification of a tensor in a manifest."""
        return cls(tensor.name, np.dtype(tensor.dtype), tensor.shape)

    def at_sizes(self, sizes: Mapping[str, int]) -> TensorSpec:
        """The same with the named axes that are among `sizes` fixed."""
        shape = tuple(sizes.get(dim, dim) if isinstance(dim, str) else dim for dim in self.shape)
        return TensorSpec(self.name, self.dtype, shape)

    @property
    def fixed_size(self) -> tuple[int, int] | None:
        """Height and width of an image or mask [batch, H, W, ...]; None where they may vary."""
        height, width = self.shape[1:3]
        return (height, width) if isinstance(height, int) and isinstance(width, int) else None

    def check(self, value: NDArray[Any]) -> None:
        """Refuse an array of another type or shape.

        Raises:
            InputError: Naming what came and what was expected.
        """
        if not isinstance(value, np.ndarray):
            raise InputError(f"input {self.name!r} is {type_of(value)}, expected a NumPy array")
        self.check_form(value.dtype, value.shape)

    def check_form(self, dtype: np.dtype[Any], shape: Shape) -> None:
        """Refuse another type or shape, wherever the values are.

        Raises:
            InputError: Naming what came and what was expected.
        """
        fits = dtype == self.dtype and len(shape) == len(self.shape) and 0 not in shape
        if not fits or not all(map(_agree, shape, self.shape)):
            expected = ", ".join(map(str, self.shape))
            raise InputError(
                f"input {self.name!r} is {dtype}{list(shape)}, expected {self.dtype}[{expected}]"
            )


def _agree(found: int, expected: int | str) -> bool:
    return found == expected or isinstance(expected, str)


def axis_sizes(specs: Sequence[TensorSpec], shapes: Mapping[str, Shape]) -> dict[str, int]:
    """The size of every named axis, from the shapes of the inputs that have it.

    Raises:
        InputError: If two inputs disagree.
    """
    sizes: dict[str, int] = {}
    for spec in specs:
        for name, size in zip(spec.shape, shapes[spec.name], strict=True):
            if isinstance(name, str) and sizes.setdefault(name, size) != size:
                raise InputError(f"input {spec.name!r} has {name} {size}, another input has {sizes[name]}")
    return sizes


def sized(spec: TensorSpec, sizes: Mapping[str, int]) -> Shape:
    """The shape of a tensor where the sizes of its named axes are known.

    Raises:
        InputError: If one is not.
    """
    unknown = [dim for dim in spec.shape if isinstance(dim, str) and dim not in sizes]
    if unknown:
        raise InputError(f"the size of axis {unknown[0]!r} of {spec.name!r} follows from no input")
    return tuple(sizes[dim] if isinstance(dim, str) else dim for dim in spec.shape)
