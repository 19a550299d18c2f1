"""The engines that a recipe asks for, built into its bundle after the export."""

from __future__ import annotations

from collections.abc import Sequence

from pixelrt.bundle import Bundle
from pixelrt.bundle_report import report_refreshed
from pixelrt.errors import MissingDependency, RecipeError
from pixelrt.trt import FLAVOURS, LOCAL, RTX_TARGETS, BuildOptions, build_bundle, installed_flavours
from pixelrt_export.progress import Steps, about_size
from pixelrt_export.recipe import TargetSection


def check_flavours(targets: Sequence[TargetSection]) -> None:
    """Refuse targets that cannot be built here, before any work.

    Raises:
        MissingDependency: If the TensorRT of a target is not installed.
        RecipeError: If TensorRT-RTX does not build for a target.
    """
    installed = installed_flavours()
    for target in targets:
        strangers = [name for name in target.names if name not in (*RTX_TARGETS, LOCAL)]
        if strangers:
            raise RecipeError(
                f"the recipe has a [[target]] for {', '.join(strangers)}; TensorRT-RTX builds for "
                f"{', '.join(RTX_TARGETS)}. Jetson and data-centre GPUs build on the machine itself: "
                "pixelrt build BUNDLE --target local"
            )
        if target.flavour not in installed:
            extra = "rtx" if target.flavour == "tensorrt_rtx" else "tensorrt"
            raise MissingDependency(
                f"the recipe has a [[target]] for {FLAVOURS[target.flavour]}, which is not installed; "
                f"install it with: pip install 'pixelrt[{extra}]', or leave the engines out (--no-engines, "
                "engines=False) and use `pixelrt build` elsewhere"
            )


def with_engines(bundle: Bundle, targets: Sequence[TargetSection], *, quiet: bool) -> Bundle:
    """Build the engines, for each size of the input, and list them in the bundles' reports.

    Raises:
        BuildError: If an engine cannot be built; the bundle stands, with the engines that could be.
        BundleError: If an engine or the report cannot be written.
    """
    with Steps(quiet) as steps:
        if not bundle.smaller:
            return _with_engines(bundle, targets, steps)
        for each in (bundle, *bundle.smaller):
            with about_size(each.segmentation.preprocess.size, steps):
                _with_engines(each, targets, steps)
    return Bundle.open(bundle.path)


def _with_engines(bundle: Bundle, targets: Sequence[TargetSection], steps: Steps) -> Bundle:
    with report_refreshed(bundle):
        for target in targets:
            with steps.step(f"engines: {' '.join(target.names)}"):
                options = BuildOptions(flavour=target.flavour, targets=target.names)
                bundle = build_bundle(bundle, options, progress=steps.phase)
    return bundle
