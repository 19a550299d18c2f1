"""What `pixelrt inspect` shows of an engine."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pixelrt.bundle import MANIFEST, Bundle
from pixelrt.errors import BundleError, PixelRTError
from pixelrt.manifest import Artifact
from pixelrt.onnx_file import OnnxTensor
from pixelrt.terminal import heading, say, say_pairs, say_table, size_text, styled
from pixelrt.trt import FLAVOURS, EngineFacts, EngineHeader, Flavour, examine_engine, inspect_engine
from pixelrt.trt.choosing import accelerator_of, brings_runtime
from pixelrt.trt.profiles import KINDS, shape_text

_NO_BUNDLE = "in none that knows it"


def inspect_engine_file(path: Path, *, load: bool, as_json: bool) -> int:
    """Print what an engine is and holds.

    Args:
        path: The file.
        load: Whether TensorRT may load it though no bundle vouches for it.
        as_json: Everything as JSON.

    Returns:
        0, or 1 if it is not what the manifest beside it says.
    """
    header = inspect_engine(path)
    place = _entry(path)
    known, problem = place.known, place.problem
    facts, silence = _facts(path, place, header.flavour, load=load)
    if as_json:
        plain = {
            "kind": "engine",
            "path": str(path),
            **dataclasses.asdict(header),
            "manifest": dataclasses.asdict(known) if known else None,
            "problem": problem,
            "note": place.note,
            "loaded": dataclasses.asdict(facts) if facts else None,
            "not_loaded": silence,
        }
        say(json.dumps(plain, indent=2))
    else:
        say(styled(f"Engine {path}", "bold"))
        in_bundle = _entry_pairs(known, problem) if known else [("bundle", place.note or _NO_BUNDLE)]
        say_pairs([*_header_pairs(header, known), *in_bundle, *_facts_pairs(facts, silence)])
        if facts:
            _show_facts(facts)
    return PixelRTError.exit_code if problem else 0


def _header_pairs(header: EngineHeader, known: Artifact | None) -> list[tuple[str, str]]:
    targets = " ".join(header.targets) or "the kind of GPU it was built on; it does not say which"
    return [
        ("built by", f"{FLAVOURS[header.flavour]} {header.version}, {_loaders(header, known)}"),
        ("runs on", targets),
        ("size", size_text(header.size_bytes)),
    ]


def _loaders(header: EngineHeader, known: Artifact | None) -> str:
    """Which versions can load it; the header of the regular TensorRT's engines does not tell."""
    if known and known.options.get("versionCompatible"):
        return "which can load it, and so can newer ones up to the next major version"
    if known or header.flavour == "tensorrt_rtx":
        return "which alone can load it"
    return "which alone can load it, unless it was built with --versionCompatible"


def _facts(path: Path, place: _Place, flavour: Flavour, *, load: bool) -> tuple[EngineFacts | None, str]:
    """What the engine says of itself once it is loaded, or why it is not."""
    vouched = place.content is not None
    if not vouched and not load:
        return (
            None,
            "that runs code which is in it, and no bundle vouches for it; --load does it all the same",
        )
    try:
        facts = examine_engine(
            path.read_bytes() if place.content is None else place.content,
            flavour,
            trust_host_code=not vouched or (place.known is not None and brings_runtime(place.known)),
            dla_core=None if place.known is None else accelerator_of(place.known),
        )
    except PixelRTError as problem:
        return None, str(problem)
    return facts, ""


def _facts_pairs(facts: EngineFacts | None, silence: str) -> list[tuple[str, str]]:
    if facts is None:
        return [("loaded", f"no: {silence}")]
    layers = ", ".join(f"{number} {kind}" for kind, number in facts.layers.items())
    pairs = [
        ("loaded", "yes, so what follows is what the engine holds"),
        ("layers", f"{facts.num_layers}: {layers or facts.silence}"),
        ("memory", f"{size_text(facts.device_memory_bytes)} per execution context, beside the weights"),
        ("aux. streams", str(facts.num_aux_streams)),
        ("refittable", "yes" if facts.refittable else "no"),
        ("verbosity", facts.profiling_verbosity),
    ]
    if facts.on_accelerator:
        pairs.append(
            ("accelerator", f"{facts.on_accelerator} layers; on the GPU: {', '.join(facts.fallback)}")
        )
    return pairs


def _show_facts(facts: EngineFacts) -> None:
    show_tensors(
        [OnnxTensor(tensor.name, tensor.dtype, tensor.shape) for tensor in facts.inputs],
        [OnnxTensor(tensor.name, tensor.dtype, tensor.shape) for tensor in facts.outputs],
    )
    for index, profile in enumerate(facts.profiles):
        heading(f"Shapes that it accepts, profile {index}")
        rows = [
            (name, *(shape_text(getattr(shapes, kind)) for kind in KINDS)) for name, shapes in profile.items()
        ]
        say_table(("input", *KINDS), rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where an engine lies."""

    known: Artifact | None = None
    """What the bundle around it says of it."""
    content: bytes | None = None
    """The very bytes that the bundle vouches for; None if it does not."""
    problem: str = ""
    """What is wrong with it."""
    note: str = ""
    """Why there is no bundle."""


def _entry(path: Path) -> _Place:
    if not (path.parent / MANIFEST).is_file():
        return _Place()
    try:
        bundle = Bundle.open(path.parent)
    except BundleError as problem:  # anybody may call a file manifest.json
        return _Place(note=f"in none: the {MANIFEST} beside it is none of PixelRT's, or damaged ({problem})")
    known = next((entry for entry in bundle.manifest.artifacts if entry.file == path.name), None)
    if known is None:
        return _Place()
    try:
        return _Place(known=known, content=bundle.read(known))
    except BundleError as problem:
        return _Place(known=known, problem=str(problem))


def _entry_pairs(known: Artifact, problem: str) -> list[tuple[str, str]]:
    options = ", ".join(f"{name} {value}" for name, value in known.options.items())
    return [
        ("targets", " ".join(known.targets) or "not recorded"),
        ("options", options or "none"),
        *([("layers", f"{known.layers_text}, says the manifest")] if known.layers else []),
        *([("on the GPU", ", ".join(known.fallback))] if known.fallback else []),
        ("build time", f"{known.build_seconds:.1f} s"),
        ("sha256", problem or "as the bundle's manifest says"),
    ]


def show_tensors(inputs: Sequence[OnnxTensor], outputs: Sequence[OnnxTensor]) -> None:
    """Write inputs and outputs as a table."""
    heading("Inputs and outputs")
    rows = [
        (way, tensor.name, tensor.dtype, f"[{', '.join(map(str, tensor.shape))}]")
        for way, tensors in (("in", inputs), ("out", outputs))
        for tensor in tensors
    ]
    say_table(("", "name", "dtype", "shape"), rows)
