"""What the options of both tasks share."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from torch import nn

from pixelrt.errors import InputError
from pixelrt.manifest import PrecisionType
from pixelrt.strict import SurpriseError, decode, suggestion
from pixelrt_export.palettes import ClassEntry
from pixelrt_export.recipe import AsInTraining, ModelSection, PrecisionSection
from pixelrt_export.samples.common import ARRAYS, Arrays, Place, arrays_of

Classes = str | Sequence[str | ClassEntry]
"""Name of a palette or the classes, in the order of their ids."""


class CommonOptions(TypedDict, total=False):
    """Options of `export` for every task. Each means what the recipe's key of the same name means."""

    name: str
    """Of the bundle; the folder's name by default."""
    precision: PrecisionType
    """fp16 by default."""
    max_images: int
    """How many of the images or masks are used, 64 by default."""
    gate: bool
    """False skips the gate; the bundle records that."""
    part: str
    """The submodule or method that is exported; dotted where nested. The whole network by default."""
    as_in_training: Sequence[AsInTraining]
    """Layers that do at test time what they did in training; none by default."""
    quiet: bool
    """No progress bars and no warnings; those stand in the report all the same."""


def check_names(given: Iterable[str], known: Iterable[str], what: str) -> None:
    """Refuse unknown names.

    Args:
        given: What was given.
        known: What may be given.
        what: What to call one of them.

    Raises:
        InputError: If a name is unknown.
    """
    names = list(known)
    for name in given:
        if name not in names:
            raise InputError(f"unknown {what} {name!r}{suggestion(name, names)}; known: {', '.join(names)}")


def section(kind: type[Any], values: Mapping[str, Any], where: str = "") -> Any:
    """A section of a recipe from Python's or NumPy's values.

    Raises:
        InputError: If a value makes no sense; the message names it.
    """
    try:
        return decode(kind, builtin(values), where)
    except SurpriseError as problem:
        raise InputError(str(problem).removeprefix(f"{kind.__name__}: ")) from problem


def shared(model: nn.Module, out: Path, given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a recipe of any task, but for the gate's."""
    kind = type(model)
    chosen = {key: given[key] for key in ("part", "as_in_training") if key in given}
    return {
        "model": section(ModelSection, {**chosen, "entry": f"{kind.__module__}:{kind.__qualname__}"}),
        "precision": section(PrecisionSection, {"type": given.get("precision", "fp16")}, "precision"),
        "name": given.get("name") or out.resolve().name,
        "text": "",
    }


def gate_skipped(given: Mapping[str, Any]) -> bool:
    """Whether `gate=False` was given.

    Raises:
        InputError: If it is neither True nor False.
    """
    gate = builtin(given.get("gate", True))
    if not isinstance(gate, bool):
        raise InputError(f"gate is {gate!r}; True or False, to skip it, was expected")
    return not gate


def plain(classes: Classes) -> str | list[Any]:
    """Classes as a recipe has them."""
    if isinstance(classes, str):
        return classes
    return [dataclasses.asdict(entry) if isinstance(entry, ClassEntry) else entry for entry in classes]


def place_in_recipe(images: Place | Arrays | None) -> str | None:
    """What stands in a recipe for images or masks."""
    if images is None:
        return None
    return ARRAYS if arrays_of(images) is not None else os.fspath(images)  # type: ignore[arg-type]


def spelled(images: Place | Arrays | None) -> str:
    """How images or masks are called in the manifest: as the caller does, without this machine's folders."""
    if images is None:
        return ""
    if not isinstance(images, str | os.PathLike):
        return ARRAYS
    path = Path(images)
    return path.name if path.is_absolute() else os.fspath(images)


def builtin(value: Any) -> Any:
    """Python's own types in the place of NumPy's, and lists in the place of tuples."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return {key: builtin(one) for key, one in value.items()}
    return [builtin(one) for one in value] if isinstance(value, list | tuple) else value
