"""From a trained network to a verified bundle: `export` for a live module, `carry_out` for a recipe."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto
from torch import nn

from pixelrt.bundle import Bundle, check_folder
from pixelrt.errors import ExportError, InputError
from pixelrt.manifest import (
    SCHEMA,
    Activation,
    Axis,
    ColorOrder,
    Emit,
    Head,
    PrecisionType,
    Preprocess,
    SegmentationGate,
    SegmentationManifest,
    Source,
)
from pixelrt.strict import SurpriseError, decode, suggestion
from pixelrt_export.fuse import DEFAULT_AXES, IMAGE, FuseSpec, HeadSpec, fuse, output_name
from pixelrt_export.gate.segmentation import Conversion, Sample, normalised, verify
from pixelrt_export.graph import checked, value_types
from pixelrt_export.network import HeadOutput, Network, NetworkSpec, from_module, open_network
from pixelrt_export.palettes import ClassEntry, class_infos
from pixelrt_export.precision import PrecisionReport, to_precision
from pixelrt_export.progress import Steps
from pixelrt_export.recipe import (
    GateSection,
    HeadSection,
    InputSection,
    ModelSection,
    PrecisionSection,
    SegmentationRecipe,
)
from pixelrt_export.report import Report
from pixelrt_export.samples import ARRAYS, Images, read_samples, samples_of
from pixelrt_export.write import tool_versions, write_bundle

if TYPE_CHECKING:
    from typing_extensions import Unpack

GRID_CELL = 32
"""Height and width in pixels of a grid's cell, where the recipe does not say how many there are."""

Classes = str | Sequence[str | ClassEntry]


class HeadOptions(TypedDict, total=False):
    """What to make of an output of the network; see `pixelrt_export.recipe.HeadSection`."""

    output: int | str
    activation: Activation
    emit: Sequence[Emit]
    grid: tuple[int, int]
    threshold: float


class ExportOptions(HeadOptions, total=False):
    """Options of `export`. Each means what the recipe's key of the same name means."""

    name: str
    """Of the bundle; the folder's name by default."""
    mean: Sequence[float]
    std: Sequence[float]
    color: ColorOrder
    frame_color: ColorOrder
    batch: int
    heads: Mapping[str, HeadOptions]
    """Options per head, where there are several; those given for all are the defaults."""
    precision: PrecisionType
    labels: str | os.PathLike[str]
    agreement: float
    miou_drop: float
    max_images: int
    gate: bool
    """False skips the gate; the bundle records that."""
    quiet: bool
    """No progress bars."""


_OF_INPUT = ("mean", "std", "color", "frame_color", "batch")
_OF_GATE = ("labels", "agreement", "miou_drop", "max_images")
_OF_HEAD = tuple(HeadOptions.__annotations__)


def export(
    model: nn.Module,
    out: str | os.PathLike[str],
    *,
    size: tuple[int, int],
    classes: Classes | Mapping[str, Classes],
    images: Images | None = None,
    **options: Unpack[ExportOptions],
) -> Bundle:
    """Convert a trained module, prove that nothing was lost, and write a bundle.

    The module is left as it was, on its device and in its mode.

    Args:
        model: The trained network.
        out: Folder of the bundle; a bundle that is there already is replaced.
        size: Height and width of the network's input.
        classes: Name of a palette or the classes, in the order of their ids; with several heads, from the
            name of a head to its classes.
        images: What the network will see: a folder, a source such as `test://drive?frames=32`, or frames
            uint8[H, W, C]. They give the activation ranges and the gate; a few dozen are enough.
        options: See `ExportOptions`.

    Returns:
        The bundle.

    Raises:
        GateFailed: If the converted network does not do what the original does; nothing is written.
        ExportError: If the network cannot be converted.
        InputError: If an option is unknown or makes no sense.
        BundleError: If the bundle cannot be written.
    """
    given = dict(options)
    _check_names(given, ExportOptions, "option")
    quiet = bool(given.pop("quiet", False))
    recipe = _recipe_of(model, Path(out), {**given, "size": size, "classes": classes, "images": images})
    check_folder(Path(out))
    with Steps(quiet) as steps:
        return _Export(recipe, from_module(model), _arrays(images), steps).to(Path(out))


def carry_out(recipe: SegmentationRecipe, out: Path, steps: Steps) -> Bundle:
    """Open the network that a recipe names, and write the bundle; `export_recipe` says the rest."""
    with steps.step("opening the network"):
        network = open_network(recipe.model)
    return _Export(recipe, network, None, steps).to(out)


# --- a recipe from arguments ----------------------------------------------------------------------


def _recipe_of(model: nn.Module, out: Path, given: dict[str, Any]) -> SegmentationRecipe:
    """The recipe that the arguments of `export` amount to."""
    images = given["images"]
    gate = {name: given[name] for name in _OF_GATE if name in given}
    if "labels" in gate:
        gate["labels"] = os.fspath(gate["labels"])
    if images is not None:
        gate["images"] = os.fspath(images) if _arrays(images) is None else ARRAYS
    network_input = {name: given[name] for name in _OF_INPUT if name in given}
    kind = type(model)
    return SegmentationRecipe(
        model=ModelSection(entry=f"{kind.__module__}:{kind.__qualname__}"),
        input=_section(InputSection, {**network_input, "size": given["size"]}),
        head=tuple(_heads_of(given)),
        precision=_section(PrecisionSection, {"type": given.get("precision", "fp16")}, "precision"),
        gate=_section(GateSection, {**gate, "skip": not given.get("gate", True)}),
        name=given.get("name") or out.resolve().name,
        text="",
        images=_spelled(images),
    )


def _heads_of(given: dict[str, Any]) -> list[HeadSection]:
    classes = given["classes"]
    per_head = classes if isinstance(classes, Mapping) else {"scene": classes}
    special: Mapping[str, Any] = given.get("heads", {})
    for name in special:
        if name not in per_head:
            raise InputError(
                f"heads names {name!r}, and classes are given for {list(per_head)}"
                f"{suggestion(name, list(per_head))}; give classes for each head"
            )
        _check_names(special[name], HeadOptions, f"option of head {name!r},")
    general = {name: given[name] for name in _OF_HEAD if name in given}
    if "output" in general and len(per_head) > 1:
        raise InputError(
            f"output = {general['output']!r} cannot hold for the heads {list(per_head)}; give each its own "
            "with heads={name: {'output': ...}}"
        )
    return [
        _section(
            HeadSection,
            {**general, **special.get(name, {}), "name": name, "classes": _plain(kinds)},
            f"head {name!r}",
        )
        for name, kinds in per_head.items()
    ]


def _plain(classes: Classes) -> str | list[Any]:
    """Classes as a recipe has them."""
    if isinstance(classes, str):
        return classes
    return [dataclasses.asdict(entry) if isinstance(entry, ClassEntry) else entry for entry in classes]


def _section(kind: type[Any], values: Mapping[str, Any], where: str = "") -> Any:
    try:
        return decode(kind, _builtin(values), where)
    except SurpriseError as problem:
        raise InputError(str(problem).removeprefix(f"{kind.__name__}: ")) from problem


def _builtin(value: Any) -> Any:
    """Python's own types in the place of NumPy's."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return {key: _builtin(one) for key, one in value.items()}
    return [_builtin(one) for one in value] if isinstance(value, list | tuple) else value


def _check_names(given: Mapping[str, Any], known: type[Any], what: str) -> None:
    names = list(known.__annotations__)
    for name in given:
        if name not in names:
            raise InputError(f"unknown {what} {name!r}{suggestion(name, names)}; known: {', '.join(names)}")


def _arrays(images: Images | None) -> Sequence[NDArray[np.uint8]] | None:
    """Images that came as frames; None for a folder or the address of a source."""
    return None if images is None or isinstance(images, str | os.PathLike) else images


def _spelled(images: Images | None) -> str:
    """How the images are called in the manifest: as the caller does, without the folders of this machine."""
    if images is None:
        return ""
    if not isinstance(images, str | os.PathLike):
        return ARRAYS
    path = Path(images)
    return path.name if path.is_absolute() else os.fspath(images)


# --- the way of a model ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Export:
    """One export, whatever it started from."""

    recipe: SegmentationRecipe
    network: Network
    arrays: Sequence[NDArray[np.uint8]] | None
    steps: Steps

    def to(self, out: Path) -> Bundle:
        samples = self._samples()
        conversion, precision = convert(self.recipe, self.network, samples, self.steps)
        manifest, verification = conversion.manifest, None
        if not self.recipe.gate.skip:
            verification = verify(conversion, samples, manifest.gate, self.steps.track)
            manifest = dataclasses.replace(manifest, gate=verification.gate)
        report = Report(
            manifest=manifest,
            precision=precision,
            verification=verification,
            samples=samples,
            seconds=self.steps.seconds,
        )
        with self.steps.step("writing the bundle"):
            return write_bundle(out, conversion.fused, report)

    def _samples(self) -> list[Sample]:
        if self.arrays is not None and len(self.arrays):
            return samples_of(self.arrays, self.recipe)
        if self.arrays is None and self.recipe.gate.images is not None:
            return read_samples(self.recipe, self.steps)
        if self.recipe.gate.skip and self.recipe.precision.type == "fp32":
            return []
        if self.recipe.gate.skip:
            raise ExportError(
                f"{self.recipe.precision.type} needs images, and none were given: they say which layers "
                "must stay FP32, and random noise would say something else. Give images (gate.images, "
                "images=), or use the precision fp32"
            )
        raise ExportError(
            "no images were given, and the gate needs some: give a folder of what the network will see "
            "(gate.images, images=), a few dozen are enough; or skip the gate with the precision fp32 "
            "(--no-gate, gate=False), and the bundle will record that nobody checked it"
        )


def convert(
    recipe: SegmentationRecipe, network: Network, samples: Sequence[Sample], steps: Steps
) -> tuple[Conversion, PrecisionReport]:
    """From a network to the deployed graph: FP32 ONNX, precision, and what goes around it.

    Args:
        recipe: What to make.
        network: The original.
        samples: Images for the activation ranges. There may be none for fp32, which changes no type; ranges
            are not reported then.
        steps: Shows progress.

    Raises:
        ExportError: If the network cannot be converted, or the recipe does not fit it.
    """
    spec, form = _fuse_spec(recipe), recipe.input
    with steps.step("network to ONNX"):
        plain = network.to_onnx(_network_spec(recipe))
        _check_classes(plain, recipe)
    if samples or recipe.precision.type != "fp32":
        tracked = steps.track(samples, "activation ranges")
        feeds = ({IMAGE: normalised(sample.pixels, spec)} for sample in tracked)
        typed, precision = to_precision(plain, feeds, recipe.precision.type)
    else:
        nothing = np.zeros((1, form.channels, *form.size), np.float32)
        typed, precision = to_precision(plain, [{IMAGE: nothing}], "fp32")
        precision = dataclasses.replace(precision, layers=())
    with steps.step("frames in, masks out"):
        fused, inputs, outputs, axes = fuse(typed, spec)
    manifest = dataclasses.replace(
        _manifest(recipe, network, precision), inputs=inputs, outputs=outputs, axes=axes
    )
    conversion = Conversion(
        network=network, plain=plain, typed=typed, fused=fused, spec=spec, manifest=manifest
    )
    return conversion, precision


def _manifest(
    recipe: SegmentationRecipe, network: Network, precision: PrecisionReport
) -> SegmentationManifest:
    """All of the manifest but tensors, artifacts and the gate's checks."""
    form, gate = recipe.input, recipe.gate
    return SegmentationManifest(
        schema=SCHEMA,
        name=recipe.name,
        task="segmentation",
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        tools=tool_versions(),
        inputs=(),
        outputs=(),
        axes={},
        preprocess=Preprocess(
            size=form.size,
            channels=form.channels,
            mean=form.mean,
            std=form.std,
            color=form.frame_color,
        ),
        heads=tuple(_head(head, recipe) for head in recipe.head),
        precision=precision.to_manifest(),
        artifacts=(),
        gate=SegmentationGate(
            skipped=gate.skip,
            agreement=gate.agreement,
            miou_drop=gate.miou_drop,
            images=recipe.images,
            num_images=0,
        ),
        source=Source(
            model=network.description,
            checkpoint_sha256=network.checkpoint_sha256,
            recipe=recipe.text,
        ),
    )


def _network_spec(recipe: SegmentationRecipe) -> NetworkSpec:
    heads = tuple(HeadOutput(name=head.name, output=head.output) for head in recipe.head)
    return NetworkSpec.of_image(recipe.input.size, recipe.input.channels, heads, recipe.input.batch)


def _fuse_spec(recipe: SegmentationRecipe) -> FuseSpec:
    axes = {**DEFAULT_AXES, "batch": Axis(min=1, opt=1, max=recipe.input.batch)}
    return FuseSpec(
        heads=tuple(
            HeadSpec(
                name=head.name,
                activation=head.activation,
                emit=head.emit,
                grid=_grid(head, recipe),
                threshold=head.threshold,
            )
            for head in recipe.head
        ),
        mean=recipe.input.mean,
        std=recipe.input.std,
        network_color=recipe.input.color,
        frame_color=recipe.input.frame_color,
        axes=axes,
    )


def _head(head: HeadSection, recipe: SegmentationRecipe) -> Head:
    return Head(
        name=head.name,
        classes=class_infos(head.classes),
        activation=head.activation,
        outputs={kind: output_name(head.name, kind, num_heads=len(recipe.head)) for kind in head.emit},
        grid=_grid(head, recipe),
        threshold=head.threshold,
    )


def _grid(head: HeadSection, recipe: SegmentationRecipe) -> tuple[int, int] | None:
    if "grid" not in head.emit:
        return None
    height, width = recipe.input.size
    return head.grid or (max(1, round(height / GRID_CELL)), max(1, round(width / GRID_CELL)))


def _check_classes(model: ModelProto, recipe: SegmentationRecipe) -> None:
    """The classes of each head must be those that its mask can hold.

    Raises:
        ExportError: If a head has another number of them.
    """
    types = value_types(checked(model))
    for head in recipe.head:
        dims = types[f"head_{head.name}"].dims
        channels = dims[1] if dims is not None and len(dims) == 4 else None
        named = len(class_infos(head.classes))
        if channels == 1 and named != 2:
            raise ExportError(
                f"head {head.name!r} has one channel, so its mask has the ids 0 and 1; 2 classes were "
                f"expected, {named} given: what is below the threshold and what is not, such as "
                "['background', 'road']"
            )
        if isinstance(channels, int) and channels > 1 and named != channels:
            raise ExportError(
                f"head {head.name!r} has {channels} channels, so {channels} classes were expected, in the "
                f"order of the channels; {named} given"
            )
