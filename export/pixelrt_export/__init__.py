"""Converts trained PyTorch networks into bundles for `pixelrt`. torch and onnx live here and only here."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from pixelrt.dependency import require

if TYPE_CHECKING:
    from pixelrt_export.exporting import export
    from pixelrt_export.from_recipe import export_recipe
    from pixelrt_export.options.generation import (
        GenerationOptions,
        ImageOptions,
        LabelOptions,
        LatentOptions,
        MaskOptions,
        OutputOptions,
    )
    from pixelrt_export.options.segmentation import ExportOptions, HeadOptions
    from pixelrt_export.palettes import PALETTES, ClassEntry, class_infos
    from pixelrt_export.recipe import Recipe, read_recipe

__all__ = [
    "PALETTES",
    "ClassEntry",
    "ExportOptions",
    "GenerationOptions",
    "HeadOptions",
    "ImageOptions",
    "LabelOptions",
    "LatentOptions",
    "MaskOptions",
    "OutputOptions",
    "Recipe",
    "class_infos",
    "export",
    "export_recipe",
    "read_recipe",
]

_HOMES = {
    "exporting": ("export",),
    "from_recipe": ("export_recipe",),
    "options.generation": (
        "GenerationOptions",
        "ImageOptions",
        "LabelOptions",
        "LatentOptions",
        "MaskOptions",
        "OutputOptions",
    ),
    "options.segmentation": ("ExportOptions", "HeadOptions"),
    "palettes": ("PALETTES", "ClassEntry", "class_infos"),
    "recipe": ("Recipe", "read_recipe"),
}


_LIBRARIES = (
    "torch",
    "onnx",
    "onnxscript",
    "onnxslim",
    "onnxruntime",
    "openvino",
    "safetensors",
    "cv2",
    "rich",
)


def load_libraries() -> None:
    """Import what an export needs, which takes seconds.

    Raises:
        MissingDependency: If a library is missing: now, and not after minutes of work.
    """
    for library in _LIBRARIES:
        require(library, "export", "exporting a network")


def __getattr__(name: str) -> object:
    """Load the public names when they are first used: training a model needs none of what converts it.

    Raises:
        MissingDependency: If a library is missing that this name needs.
    """
    for module, names in _HOMES.items():
        if name in names:
            if module == "exporting" or module.startswith("options."):
                load_libraries()
            elif module == "from_recipe":
                require("rich", "export", "exporting a network")
            return getattr(importlib.import_module(f"pixelrt_export.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
