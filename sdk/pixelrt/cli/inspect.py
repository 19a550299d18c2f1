"""`pixelrt inspect`: what a bundle, an engine or an ONNX file is and holds."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

from pixelrt.bundle import MANIFEST, Bundle
from pixelrt.cli.generators import CHECK_COLUMNS, check_row, demanded_text, preprocess_text, show_generator
from pixelrt.cli.inspect_engine import inspect_engine_file, show_tensors
from pixelrt.cli.sizes import sizes_table
from pixelrt.cli.wording import verdict
from pixelrt.errors import BundleError, InputError, PixelRTError
from pixelrt.file_kind import FileKind, kind_of
from pixelrt.manifest import (
    Artifact,
    GenerationManifest,
    Manifest,
    SegmentationCheck,
    SegmentationManifest,
)
from pixelrt.onnx_file import OnnxTensor, read_onnx
from pixelrt.terminal import heading, say, say_pairs, say_table, size_text, styled

_EPILOG = """\
examples:
  pixelrt inspect engines/road-unet/bundle
  pixelrt inspect engines/road-unet/bundle/model.onnx
  pixelrt inspect engines/road-unet/bundle --json | jq .manifest.gate

exits with 1 if a file of the bundle is missing, damaged or changed
"""

_CHECK_COLUMNS = (
    "backend",
    "device",
    "precision",
    "head",
    ">agreement",
    ">mIoU",
    ">drop",
    ">max diff",
    "verdict",
)
_ENGINE_SUFFIXES = (".engine", ".plan", ".trt")
_OTHERS = {
    FileKind.LFS_POINTER: "a Git LFS pointer, not the file itself; fetch it with: git lfs pull",
    FileKind.WEB_PAGE: "a web page or XML, not a model; download the file itself again",
    FileKind.TORCH_ARCHIVE: (
        "a PyTorch checkpoint, TorchScript or .pt2 file; make a bundle of it with: pixelrt export"
    ),
    FileKind.ZIP: "a zip archive; unpack it and give what is in it",
    FileKind.PICKLE: (
        "a Python pickle, such as an old PyTorch checkpoint; make a bundle of it with: pixelrt export"
    ),
    FileKind.SAFETENSORS: "safetensors, the weights of a network; make a bundle of it with: pixelrt export",
    FileKind.JSON: "a JSON file; give the bundle's folder instead",
}


def add_parser(subparsers: Any) -> None:
    """Add the command to the parser of `pixelrt`."""
    parser = subparsers.add_parser(
        "inspect",
        help="show what a bundle, an engine or an ONNX file is and holds",
        description="Show what a bundle, an engine or an ONNX file is and holds; check a bundle's files.",
        epilog=_EPILOG,
    )
    parser.add_argument("path", metavar="PATH", help="folder of a bundle, engine file or ONNX file")
    parser.add_argument(
        "--load",
        action="store_true",
        help="let TensorRT load an engine that no bundle vouches for; that runs code which is in it",
    )
    parser.add_argument("--json", action="store_true", help="print everything as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Print what it is.

    Returns:
        0, or 1 if a file of the bundle is not what its manifest says.
    """
    path = Path(arguments.path)
    kind = _kind(path)
    if kind == "bundle":
        return _bundle(Bundle.open(path), as_json=arguments.json)
    if kind == "engine":
        return inspect_engine_file(path, load=arguments.load, as_json=arguments.json)
    return _onnx(path, as_json=arguments.json)


def _kind(path: Path) -> str:
    """`bundle`, `engine` or `onnx`; everything else is explained.

    Raises:
        InputError: If it is something else.
    """
    try:
        kind = kind_of(path)
    except OSError as problem:
        raise InputError(f"{path} cannot be read ({problem.strerror})") from problem
    if kind is FileKind.MISSING:
        raise InputError(f"{path} does not exist; expected a bundle, an engine or an ONNX file")
    if kind is FileKind.FOLDER:
        return "bundle"
    if kind is FileKind.EMPTY:
        raise InputError(f"{path} is empty; export, build or copy it again")
    if kind in _OTHERS:
        raise InputError(f"{path} is {_OTHERS[kind]}")
    if path.suffix in _ENGINE_SUFFIXES or kind in (FileKind.TENSORRT_ENGINE, FileKind.RTX_ENGINE):
        return "engine"
    if path.suffix == ".onnx" or kind is FileKind.ONNX:
        return "onnx"
    raise InputError(f"{path} is neither a bundle, an engine nor an ONNX file; expected one of these")


def _bundle(bundle: Bundle, *, as_json: bool) -> int:
    smaller, problems = _smaller(bundle)
    for each in (bundle, *smaller):
        problems |= {each.path / one.file: _problem(each, one) for one in each.manifest.artifacts}
    if as_json:
        plain = {
            "kind": "bundle",
            "path": str(bundle.path),
            "intact": not any(problems.values()),
            "problems": {
                str(file.relative_to(bundle.path)): problem for file, problem in problems.items() if problem
            },
            "manifest": dataclasses.asdict(bundle.manifest),
            **({"smaller": [dataclasses.asdict(each.manifest) for each in smaller]} if smaller else {}),
        }
        say(json.dumps(plain, indent=2))
    else:
        _show_bundle(bundle, smaller, problems)
    return PixelRTError.exit_code if any(problems.values()) else 0


def _smaller(bundle: Bundle) -> tuple[list[Bundle], dict[Path, str]]:
    """The bundles of smaller inputs, and what is wrong with the manifests of those that are not as listed."""
    found, problems = [], {}
    listed = bundle.manifest.smaller if isinstance(bundle.manifest, SegmentationManifest) else ()
    for entry in listed:
        try:
            found.append(bundle.open_smaller(entry))
        except BundleError as problem:  # noqa: PERF203 - a few sizes
            problems[bundle.path / entry.folder / MANIFEST] = str(problem)
    return found, problems


def _problem(bundle: Bundle, artifact: Artifact) -> str:
    """What is wrong with an artifact, empty if it is as the manifest says."""
    try:
        bundle.read(artifact)
    except BundleError as problem:
        return str(problem)
    return ""


def _show_bundle(bundle: Bundle, smaller: list[Bundle], problems: dict[Path, str]) -> None:
    manifest = bundle.manifest
    say(styled(f"Bundle {bundle.path}", "bold"))
    say_pairs(
        [
            ("name", manifest.name),
            ("task", manifest.task),
            ("created", manifest.created),
            ("network", manifest.source.model),
            ("checkpoint", manifest.source.checkpoint_sha256[:12] or "not recorded"),
            ("written by", ", ".join(f"{name} {version}" for name, version in manifest.tools.items())),
            *_frame_pairs(manifest),
            ("precision", _precision_text(manifest)),
        ]
    )
    show_tensors(
        [OnnxTensor(tensor.name, tensor.dtype, tensor.shape) for tensor in manifest.inputs],
        [OnnxTensor(tensor.name, tensor.dtype, tensor.shape) for tensor in manifest.outputs],
    )
    _show_axes(manifest)
    if isinstance(manifest, GenerationManifest):
        show_generator(manifest)
    else:
        _show_heads(manifest)
    _show_islands(manifest)
    _show_gate(manifest)
    if smaller:
        heading("Sizes")
        say_table(*sizes_table(bundle, smaller))
    _show_artifacts(bundle, smaller, problems)


def _frame_pairs(manifest: Manifest) -> list[tuple[str, str]]:
    if isinstance(manifest, SegmentationManifest):
        return [("input", preprocess_text(manifest.preprocess))]
    return []


def _precision_text(manifest: Manifest) -> str:
    layers = ", ".join(f"{number} in {kind}" for kind, number in manifest.precision.layers.items())
    return f"{manifest.precision.requested} asked for; layers: {layers or 'not recorded'}"


def _show_axes(manifest: Manifest) -> None:
    if not manifest.axes:
        return
    heading("Dynamic axes")
    rows = [(name, str(axis.min), str(axis.opt), str(axis.max)) for name, axis in manifest.axes.items()]
    say_table(("axis", ">min", ">opt", ">max"), rows)


def _show_heads(manifest: SegmentationManifest) -> None:
    for head in manifest.heads:
        heading(f"Head {head.name}")
        emitted = ", ".join(f"{kind} as {output}" for kind, output in head.outputs.items())
        grid = [("grid", f"{head.grid[0]} rows, {head.grid[1]} columns")] if head.grid else []
        threshold = [("threshold", f"{head.threshold:g}")] if head.activation == "sigmoid" else []
        say_pairs([("activation", head.activation), ("outputs", emitted), *grid, *threshold])
        rows = [
            (str(index), info.name, "#{:02x}{:02x}{:02x}".format(*info.color))
            for index, info in enumerate(head.classes)
        ]
        say_table((">id", "class", "colour"), rows)


def _show_islands(manifest: Manifest) -> None:
    if not manifest.precision.islands:
        return
    heading("Layers that stay in FP32")
    rows = [(island.layer, f"{island.max_abs:.3g}", island.reason) for island in manifest.precision.islands]
    say_table(("layer", ">max |x|", "why"), rows)


def _show_gate(manifest: SegmentationManifest | GenerationManifest) -> None:
    gate = manifest.gate
    heading("Gate")
    if gate.skipped:
        say("  " + styled("skipped at the export: nothing was demanded of this bundle", "yellow"))
    else:
        say(f"  {_demanded(manifest)}, measured on {_material(manifest)}")
    if not gate.checks:
        return
    if isinstance(manifest, GenerationManifest):
        say_table(CHECK_COLUMNS, [check_row(check) for check in manifest.gate.checks])
    else:
        say_table(_CHECK_COLUMNS, [_check_row(check) for check in manifest.gate.checks])


def _demanded(manifest: SegmentationManifest | GenerationManifest) -> str:
    if isinstance(manifest, GenerationManifest):
        return demanded_text(manifest.gate)
    return f"agreement >= {manifest.gate.agreement:g}, mIoU drop <= {manifest.gate.miou_drop:g}"


def _material(manifest: SegmentationManifest | GenerationManifest) -> str:
    gate = manifest.gate
    origin = f" from {gate.images}" if gate.images else ""
    seed = f", seed {manifest.gate.seed}" if isinstance(manifest, GenerationManifest) else ""
    return f"{gate.num_images} images{origin}{seed}"


def _check_row(check: SegmentationCheck) -> tuple[str, ...]:
    return (
        check.backend,
        check.device,
        check.precision,
        check.head,
        f"{check.agreement:.5f}",
        _or_dash(check.miou, ".4f"),
        _or_dash(check.miou_drop, "+.4f"),
        _or_dash(check.max_logit_difference, ".3g"),
        verdict(check),
    )


def _or_dash(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _state(file: Path, problem: str) -> str:
    if not problem:
        return "intact"
    return "DAMAGED" if file.exists() else "MISSING"


def _show_artifacts(bundle: Bundle, smaller: list[Bundle], problems: dict[Path, str]) -> None:
    heading("Files")
    rows = [
        (
            str((each.path / artifact.file).relative_to(bundle.path)),
            " ".join(part for part in (artifact.kind, artifact.flavour, artifact.version) if part),
            " ".join(artifact.targets) or "-",
            size_text(artifact.size_bytes),
            _state(each.path / artifact.file, problems[each.path / artifact.file]),
        )
        for each in (bundle, *smaller)
        for artifact in each.manifest.artifacts
    ]
    say_table(("file", "kind", "targets", ">size", "sha256"), rows)
    for problem in filter(None, problems.values()):
        say("  " + styled(problem, "red"))


def _onnx(path: Path, *, as_json: bool) -> int:
    facts = read_onnx(path)
    if as_json:
        plain = {"kind": "onnx", "path": str(path), "size_bytes": path.stat().st_size}
        say(json.dumps({**plain, **dataclasses.asdict(facts)}, indent=2))
        return 0
    say(styled(f"ONNX file {path}", "bold"))
    inside = f"model of a bundle: try pixelrt inspect {path.parent}"
    say_pairs(
        [
            ("size", size_text(path.stat().st_size)),
            ("producer", facts.producer or "not recorded"),
            ("read with", facts.read_with),
            *[(f"{name} said", reason) for name, reason in facts.refused_by.items()],
            *[("see also", inside)] * (path.parent / MANIFEST).is_file(),
            *sorted(facts.metadata.items()),
        ]
    )
    show_tensors(facts.inputs, facts.outputs)
    return 0
