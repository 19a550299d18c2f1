"""`export_recipe`: what a recipe says is done, and its mistakes are found before PyTorch is loaded."""

from __future__ import annotations

import os
from pathlib import Path

from pixelrt.bundle import Bundle, check_folder
from pixelrt_export import load_libraries
from pixelrt_export.engines import check_flavours, with_engines
from pixelrt_export.progress import Steps
from pixelrt_export.recipe import read_recipe, without_gate
from pixelrt_export.samples.needs import check_places


def export_recipe(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    gate: bool = True,
    engines: bool = True,
    quiet: bool = False,
) -> Bundle:
    """Do what a recipe says: write the bundle, then build the engines of its [[target]] sections into it.

    Args:
        path: The recipe.
        out: Folder of the bundle; `bundle` beside the recipe by default.
        gate: False skips the gate, whatever the recipe says; the bundle records that.
        engines: False leaves the [[target]] sections for `pixelrt build` on another machine.
        quiet: No progress bars and no warnings.

    Returns:
        The bundle.

    Raises:
        RecipeError: If the recipe asks for something that does not exist or makes no sense.
        SourceError: If images, masks or labels do not exist or cannot be read.
        CheckpointError: If a file is not the weights that it should be.
        GateFailed: If the converted network does not do what the original does; nothing is written.
        ExportError: If the network cannot be converted.
        BundleError: If the bundle cannot be written.
        MissingDependency: If the TensorRT of a target is not installed; that is found before any work.
        BuildError: If an engine cannot be built; the bundle stands, with the engines that could be.
    """
    recipe = read_recipe(Path(path))
    targets = recipe.target if engines else ()
    check_flavours(targets)
    if not gate:
        recipe = without_gate(recipe)
    folder = Path(path).parent / "bundle" if out is None else Path(out)
    check_folder(folder)
    check_places(recipe)
    with Steps(quiet) as steps:
        with steps.step("loading PyTorch"):
            load_libraries()
            from pixelrt_export.exporting import carry_out  # takes seconds, and a recipe may be wrong
        bundle = carry_out(recipe, folder, steps)
    return with_engines(bundle, targets, quiet=quiet) if targets else bundle
