"""Converts trained PyTorch networks into bundles for `pixelrt`. torch and onnx live here and only here."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pixelrt_export.exporting import ExportOptions, HeadOptions, export, export_recipe
    from pixelrt_export.palettes import PALETTES, ClassEntry, class_infos
    from pixelrt_export.recipe import Recipe, read_recipe

__all__ = [
    "PALETTES",
    "ClassEntry",
    "ExportOptions",
    "HeadOptions",
    "Recipe",
    "class_infos",
    "export",
    "export_recipe",
    "read_recipe",
]

_HOMES = {
    "exporting": ("ExportOptions", "HeadOptions", "export", "export_recipe"),
    "palettes": ("PALETTES", "ClassEntry", "class_infos"),
    "recipe": ("Recipe", "read_recipe"),
}


def __getattr__(name: str) -> object:
    """Load the public names when they are first used: training a model needs none of what converts it."""
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"pixelrt_export.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
