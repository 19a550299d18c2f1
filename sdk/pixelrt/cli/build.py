"""`pixelrt build`: TensorRT engines from a bundle's ONNX."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import logging
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pixelrt.bundle import Bundle
from pixelrt.bundle_report import refresh_report
from pixelrt.errors import BuildError, PixelRTError
from pixelrt.manifest import Artifact, Tensor
from pixelrt.progress import showing_progress
from pixelrt.terminal import complain, heading, say, say_pairs, say_table, size_text
from pixelrt.trt.building import BuildOptions, DryRun, build_bundle, choose_flavour, dry_run
from pixelrt.trt.library import FLAVOURS, installed_flavours
from pixelrt.trt.options import COMPATIBILITIES, VERBOSITIES, EngineOptions
from pixelrt.trt.profiles import KINDS, Shape, parse_shapes, profile_of, shape_text
from pixelrt.trt.targets import LOCAL, RTX_TARGETS, default_targets

_DESCRIPTION = """\
Build TensorRT engines from a bundle's ONNX and add them to the bundle.

TensorRT-RTX (pip install 'pixelrt[rtx]') builds on any machine, without a GPU, for
{rtx}. The regular TensorRT builds for the GPU of the machine it runs on
({local}): Jetson Orin and Thor, data-centre cards. Without --target, TensorRT-RTX builds one engine for
each of its targets. The shapes that an engine accepts are those of the manifest. A bundle with several
input sizes gets engines for each of them.
""".format(rtx=", ".join(RTX_TARGETS), local=LOCAL)

_EPILOG = """\
examples:
  pixelrt build engines/road-unet/bundle                        engines for every RTX card
  pixelrt build engines/road-unet/bundle --target sm86 --target sm120
  pixelrt build engines/road-unet/bundle --target local         on a Jetson, for that Jetson
  pixelrt build engines/road-unet/bundle --dry-run              parse only
  pixelrt build BUNDLE --target sm86 --memPoolSize=workspace:512 --maxShapes=frame:1x1080x1920x3

options in trtexec's spelling mean what they mean there
"""

_MIB_PER_UNIT = {"": 1.0, "B": 2.0**-20, "K": 2.0**-10, "M": 1.0, "G": 2.0**10}


def add_parser(subparsers: Any) -> None:
    """Add the command to the parser of `pixelrt`."""
    parser = subparsers.add_parser(
        "build",
        help="build TensorRT engines for a bundle",
        description=_DESCRIPTION,
        epilog=_EPILOG,
    )
    parser.add_argument("bundle", metavar="BUNDLE", help="the folder that `pixelrt export` wrote")
    parser.add_argument(
        "--target",
        metavar="TARGET",
        action="append",
        default=[],
        help="compute capability such as sm86, or local; repeat for several",
    )
    parser.add_argument(
        "--flavour",
        choices=tuple(FLAVOURS),
        help="which TensorRT; default: what the targets need, else what is installed",
    )
    parser.add_argument(
        "--together",
        action="store_true",
        help="one engine for all targets: less disk, and only what all of them can do",
    )
    parser.add_argument("--dry-run", action="store_true", help="parse only; exits with 1 if TensorRT refuses")
    parser.add_argument(
        "--memPoolSize",
        metavar="workspace:N",
        type=_workspace_mib,
        dest="workspace_mib",
        help="most memory for scratch space, in MiB, or with B, K, M or G; default: no limit",
    )
    for kind in KINDS:
        parser.add_argument(
            f"--{kind}Shapes",
            metavar="SPEC",
            type=_shapes,
            default={},
            help=f"{kind} shapes in place of the manifest's, such as frame:1x720x1280x3",
        )
    parser.add_argument("--verbose", action="store_true", help="show everything that TensorRT says")
    _add_tuning(parser)
    _add_accelerator(parser)
    _add_portability(parser)


def _add_tuning(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("how TensorRT looks for the fastest kernels (docs/build.md)")
    caches = group.add_mutually_exclusive_group()
    caches.add_argument(
        "--timingCacheFile",
        metavar="FILE",
        help="where to keep the times of kernels; default: the user's cache, where TensorRT has such a thing",
    )
    caches.add_argument(
        "--noTimingCache", action="store_true", help="time every kernel anew, and keep no times"
    )
    group.add_argument(
        "--builderOptimizationLevel",
        metavar="N",
        type=_whole,
        dest="builder_optimization_level",
        help="0, which builds quickly, to 5, which looks everywhere (3)",
    )
    group.add_argument(
        "--avgTiming",
        metavar="N",
        type=_whole,
        dest="avg_timing_iterations",
        help="runs per kernel that its time is the mean of (1)",
    )
    group.add_argument(
        "--maxAuxStreams",
        metavar="N",
        type=_whole,
        dest="max_aux_streams",
        help="most streams for layers that run side by side; 0 needs the least memory (TensorRT's choice)",
    )
    group.add_argument(
        "--noTF32", action="store_false", dest="tf32", help="compute FP32 layers in FP32, not in TF32"
    )


def _add_accelerator(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("deep learning accelerator of a Jetson")
    group.add_argument(
        "--useDLACore", metavar="N", type=_whole, dest="dla_core", help="accelerator to run on, from 0"
    )
    group.add_argument(
        "--allowGPUFallback",
        action="store_true",
        dest="gpu_fallback",
        help="run layers that it lacks on the GPU; which ones is shown",
    )


def _add_portability(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what the engine holds, and where it runs")
    group.add_argument(
        "--hardwareCompatibilityLevel",
        metavar="LEVEL",
        choices=COMPATIBILITIES,
        default=COMPATIBILITIES[0],
        dest="hardware_compatibility",
        help=f"other GPUs that shall run it: {', '.join(COMPATIBILITIES)}; costs speed",
    )
    group.add_argument(
        "--versionCompatible",
        action="store_true",
        dest="version_compatible",
        help="let newer versions of TensorRT load it; costs speed",
    )
    group.add_argument(
        "--excludeLeanRuntime",
        action="store_true",
        dest="exclude_lean_runtime",
        help="without the runtime that a version compatible engine carries",
    )
    group.add_argument(
        "--stripWeights",
        action="store_true",
        dest="strip_weights",
        help="without weights, which the bundle's ONNX supplies when it is loaded",
    )
    group.add_argument("--refit", action="store_true", help="take other weights later; costs speed")
    group.add_argument(
        "--profilingVerbosity",
        metavar="HOW",
        choices=VERBOSITIES,
        default=VERBOSITIES[0],
        dest="profiling_verbosity",
        help=f"what the engine tells of its layers: {', '.join(VERBOSITIES)} (detailed)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Build, or parse only.

    Returns:
        0, or 1 after a dry run in which TensorRT refused something.
    """
    bundle = Bundle.open(arguments.bundle)
    targets = tuple(arguments.target)
    flavour = arguments.flavour or choose_flavour(targets, installed_flavours())
    options = BuildOptions(
        flavour=flavour,
        targets=targets or default_targets(flavour),
        timing_cache=arguments.timingCacheFile or not arguments.noTimingCache,
        verbose=arguments.verbose,
        **{field.name: getattr(arguments, field.name) for field in dataclasses.fields(EngineOptions)},
    )
    sizes = (bundle, *bundle.smaller)
    with _messages(verbose=arguments.verbose):
        return max(_run(each, options, arguments, named=len(sizes) > 1) for each in sizes)


def _run(bundle: Bundle, options: BuildOptions, arguments: argparse.Namespace, *, named: bool) -> int:
    """Build for one size of the input, or parse only."""
    if named:
        heading(str(bundle.path))
    changes = {kind: getattr(arguments, f"{kind}Shapes") for kind in KINDS}
    profile = profile_of(bundle.manifest, changes)
    if arguments.dry_run:
        return _show_dry_run(dry_run(bundle, options, profile=profile))
    before = bundle.manifest.artifacts
    try:
        with showing_progress() as progress:
            build_bundle(bundle, options, profile=profile, together=arguments.together, progress=progress)
    except BaseException:
        try:
            _show_engines(bundle.path, before)
        except (PixelRTError, OSError) as second:  # what stopped the build is what has to be told
            complain(f"warning: {second}")
        raise
    _show_engines(bundle.path, before)
    return 0


def _show_engines(path: Path, before: tuple[Artifact, ...]) -> None:
    """Show the engines that were added, and bring the report up to date if there are any."""
    bundle = Bundle.open(path)
    built = [artifact for artifact in bundle.manifest.artifacts if artifact not in before]
    if built:
        say_table(
            ("engine", "targets", "layers", ">size", ">built in"),
            [
                (
                    str(bundle.path / artifact.file),
                    " ".join(artifact.targets),
                    artifact.layers_text,
                    size_text(artifact.size_bytes),
                    f"{artifact.build_seconds:.1f} s",
                )
                for artifact in built
            ],
        )
        for artifact in built:
            _show_fallback(artifact)
        refresh_report(bundle)


def _show_fallback(artifact: Artifact) -> None:
    """Show what the accelerator did not take, and who says so."""
    if "useDLACore" not in artifact.options:
        return
    core = artifact.options["useDLACore"]
    heading(f"Layers on the GPU instead of accelerator {core}: {len(artifact.fallback)}")
    if artifact.layers_from != "engine":
        say("  as TensorRT said before it built; the engine itself could not be asked")
    for name in artifact.fallback:
        say(f"  {name}")


def _show_dry_run(found: DryRun) -> int:
    say_pairs(
        [
            ("TensorRT", f"{FLAVOURS[found.flavour]} {found.version}"),
            ("Verdict", "refused" if found.problems else f"parsed, {found.num_layers} layers"),
        ]
    )
    if found.problems:
        heading("What it refuses")
        for problem in found.problems:
            say(f"  {problem}")
        if found.unsupported:
            say(f"  operators: {', '.join(found.unsupported)}")
    heading("Inputs")
    say_table(
        ("name", "type", "shape", "min", "opt", "max"),
        [
            (
                tensor.name,
                tensor.dtype,
                _shape(tensor),
                *(
                    shape_text(getattr(found.profile[tensor.name], kind))
                    if tensor.name in found.profile
                    else ""
                    for kind in KINDS
                ),
            )
            for tensor in found.inputs
        ],
    )
    heading("Outputs")
    rows = [(tensor.name, tensor.dtype, _shape(tensor)) for tensor in found.outputs]
    say_table(("name", "type", "shape"), rows)
    return BuildError.exit_code if found.problems else 0


def _shape(tensor: Tensor) -> str:
    return f"[{', '.join(map(str, tensor.shape))}]"


@contextlib.contextmanager
def _messages(*, verbose: bool) -> Iterator[None]:
    """Show TensorRT's messages on standard error: everything, or warnings."""
    log = logging.getLogger("pixelrt.trt")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("TensorRT: %(message)s"))
    handler.setLevel(logging.DEBUG if verbose else logging.WARNING)
    if not verbose:  # errors are part of the exception, with what is not about them left out
        handler.addFilter(lambda record: record.levelno < logging.ERROR)
    before = log.level
    log.addHandler(handler)
    log.setLevel(handler.level)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(before)


def _workspace_mib(text: str) -> float:
    match = re.fullmatch(r"workspace:(\d+(?:\.\d+)?)([BKMG]?)", text)
    if match is None or float(match[1]) == 0:
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected workspace:N, N in MiB or with B, K, M or G behind; other pools are the DLA's"
        )
    return float(match[1]) * _MIB_PER_UNIT[match[2]]


def _whole(text: str) -> int:
    if not re.fullmatch(r"\d{1,9}", text):
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number, 0 or more")
    return int(text)


def _shapes(text: str) -> dict[str, Shape]:
    try:
        return parse_shapes(text)
    except ValueError as problem:
        raise argparse.ArgumentTypeError(str(problem)) from problem
