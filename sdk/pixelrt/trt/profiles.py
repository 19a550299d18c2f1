"""Optimisation profiles: which shapes an engine accepts, and for which it is tuned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from pixelrt.errors import InputError
from pixelrt.manifest import Manifest, Tensor
from pixelrt.strict import suggestion

Kind = Literal["min", "opt", "max"]
KINDS: tuple[Kind, ...] = ("min", "opt", "max")
Shape: TypeAlias = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShapeRange:
    """Shapes of one input."""

    min: Shape
    opt: Shape
    max: Shape

    def __post_init__(self) -> None:
        fits = len(self.min) == len(self.opt) == len(self.max) and all(
            1 <= low <= best <= high for low, best, high in zip(self.min, self.opt, self.max, strict=True)
        )
        if not fits:
            raise ValueError(
                f"min {shape_text(self.min)}, opt {shape_text(self.opt)}, max {shape_text(self.max)}: "
                "expected shapes of one length with 1 <= min <= opt <= max in every axis"
            )


Profile: TypeAlias = Mapping[str, ShapeRange]
"""From the name of an input to its shapes."""


def profile_of(manifest: Manifest, changes: Mapping[Kind, Mapping[str, Shape]] | None = None) -> Profile:
    """The profile that the manifest's axes describe.

    Args:
        manifest: Names the inputs, and the range of every dynamic axis.
        changes: Shapes that take the place of the manifest's, per kind and input; the others stay.

    Raises:
        InputError: If the manifest gives no range for an axis, or a change does not fit it.
    """
    changes = changes or {}
    names = [tensor.name for tensor in manifest.inputs]
    for kind in changes:
        for name in changes[kind]:
            if name not in names:
                raise InputError(
                    f"--{kind}Shapes names the input {name!r}{suggestion(name, names)}; "
                    f"the inputs are {names}"
                )
    return {tensor.name: _range(manifest, tensor, changes) for tensor in manifest.inputs}


def _range(manifest: Manifest, tensor: Tensor, changes: Mapping[Kind, Mapping[str, Shape]]) -> ShapeRange:
    shapes: dict[Kind, Shape] = {}
    for kind in KINDS:
        changed = changes.get(kind, {}).get(tensor.name)
        if changed is not None:
            _check_change(kind, tensor, changed)
        shapes[kind] = changed or tuple(_size(manifest, tensor, axis, kind) for axis in tensor.shape)
    try:
        return ShapeRange(min=shapes["min"], opt=shapes["opt"], max=shapes["max"])
    except ValueError as problem:
        raise InputError(f"shapes of {tensor.name!r}: {problem}") from problem


def _size(manifest: Manifest, tensor: Tensor, axis: int | str, kind: Kind) -> int:
    if isinstance(axis, int):
        return axis
    if axis not in manifest.axes:
        raise InputError(
            f"input {tensor.name!r} has the dynamic axis {axis!r}, the manifest gives ranges for "
            f"{sorted(manifest.axes)}; export the bundle again"
        )
    return int(getattr(manifest.axes[axis], kind))


def _check_change(kind: Kind, tensor: Tensor, shape: Shape) -> None:
    fits = len(shape) == len(tensor.shape) and all(
        axis == size or isinstance(axis, str) for axis, size in zip(tensor.shape, shape, strict=True)
    )
    if not fits:
        expected = "x".join(map(str, tensor.shape))
        raise InputError(
            f"--{kind}Shapes={tensor.name}:{shape_text(shape)} does not fit the input, "
            f"{expected} was expected"
        )


def shape_text(shape: Shape) -> str:
    """`1x720x1280x3`, as trtexec writes it."""
    return "x".join(map(str, shape))


def parse_shapes(text: str) -> dict[str, Shape]:
    """Read shapes as trtexec takes them: `frame:1x720x1280x3,other:1x8`.

    Raises:
        ValueError: If that is not what `text` is.
    """
    shapes: dict[str, Shape] = {}
    for part in text.split(","):
        name, colon, sizes = part.rpartition(":")
        name = name.strip("'\"")
        if not colon or not name or name in shapes or not all(size.isdigit() for size in sizes.split("x")):
            raise ValueError(f"{part!r}: expected name:1x720x1280x3, several separated by commas")
        shapes[name] = tuple(map(int, sizes.split("x")))
    return shapes


def profile_options(profile: Profile) -> dict[str, str]:
    """A profile as trtexec's options, for the manifest."""
    return {
        f"{kind}Shapes": ",".join(
            f"{name}:{shape_text(getattr(shapes, kind))}" for name, shapes in profile.items()
        )
        for kind in KINDS
    }
