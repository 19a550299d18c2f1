"""A recipe: the TOML file that says what to build from what, and which gates it must pass."""

from __future__ import annotations

import dataclasses
import math
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pixelrt.errors import RecipeError
from pixelrt.manifest import Activation, ColorOrder, Emit, PrecisionType
from pixelrt.strict import SurpriseError, decode
from pixelrt.trt import LOCAL, Flavour
from pixelrt.trt.targets import check_targets
from pixelrt_export.palettes import ClassEntry, class_infos

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_SOURCES = ("entry", "onnx", "torchscript", "exported")
_HEAD_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSection:
    """Where the network comes from: exactly one of the first four."""

    entry: str | None = None
    """`module:callable`, which returns the `nn.Module`: an installed module, or a file beside the recipe."""
    onnx: str | None = None
    torchscript: str | None = None
    """A file of `torch.jit.save`."""
    exported: str | None = None
    """A file of `torch.export.save`."""
    checkpoint: str | None = None
    """Weights for `entry`."""
    args: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments for `entry`."""

    def __post_init__(self) -> None:
        given = [name for name in _SOURCES if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"exactly one of {', '.join(_SOURCES)} was expected, found {', '.join(given) or 'none'}"
            )
        if self.entry is None and (self.checkpoint is not None or self.args):
            extra = "checkpoint" if self.checkpoint is not None else "args"
            raise ValueError(f"{extra} goes with entry; a file of {given[0]} brings its own weights")
        if self.entry is not None and not all(self.entry.rpartition(":")[::2]):
            raise ValueError(
                f"entry is {self.entry!r}, 'module:callable' was expected, like 'my_package.nets:UNet'"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class InputSection:
    """What the network takes."""

    size: tuple[int, int]
    """Height and width of the network's input."""
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    """Per channel, of 0..1 pixels. Their number is the number of channels."""
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    """Per channel, of 0..1 pixels."""
    color: ColorOrder = "rgb"
    """Order in which the network was trained to see the first three channels."""
    frame_color: ColorOrder = "rgb"
    """Order in which frames arrive."""
    batch: int = 4
    """Largest number of frames at once."""

    def __post_init__(self) -> None:
        if min(self.size) < 1:
            raise ValueError(f"size is {list(self.size)}, height and width of at least 1 were expected")
        if not self.mean or len(self.mean) != len(self.std):
            raise ValueError(
                f"mean has {len(self.mean)} values and std {len(self.std)}; one per channel was expected"
            )
        if not all(map(math.isfinite, self.mean)) or not all(0 < std < math.inf for std in self.std):
            raise ValueError(
                f"mean is {list(self.mean)} and std {list(self.std)}; finite numbers with std above 0 were "
                "expected, for pixels from 0 to 1"
            )
        if max(map(abs, self.mean)) > 1:
            raise ValueError(
                f"mean is {list(self.mean)}, and pixels go from 0 to 1; divide mean and std by 255 if they "
                "are of pixels from 0 to 255"
            )
        if self.batch < 1:
            raise ValueError(f"batch is {self.batch}, at least 1 was expected")

    @property
    def channels(self) -> int:
        """Channels of the network's input."""
        return len(self.mean)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadSection:
    """One output of the network, and what to make of it."""

    classes: str | tuple[str | ClassEntry, ...]
    """A named palette, or the classes."""
    name: str = "scene"
    output: int | str | None = None
    """Index, key or attribute of the network's output; may be left out where there is only one."""
    activation: Activation = "softmax"
    emit: tuple[Emit, ...] = ("mask", "confidence", "grid")
    grid: tuple[int, int] | None = None
    """Rows and columns; one cell per 32 pixels where it is left out."""
    threshold: float = 0.5
    """Probability from which a pixel of a sigmoid head belongs to the class."""

    def __post_init__(self) -> None:
        if not _HEAD_NAME.fullmatch(self.name):
            raise ValueError(f"name is {self.name!r}; letters, digits, '_' and '-' were expected")
        if not self.emit or len(set(self.emit)) < len(self.emit):
            raise ValueError(f"emit is {list(self.emit)}; one or more different kinds were expected")
        if self.grid is not None and min(self.grid) < 1:
            raise ValueError(f"grid is {list(self.grid)}; rows and columns of at least 1 were expected")
        if not 0 < self.threshold < 1:
            raise ValueError(f"threshold is {self.threshold}; between 0 and 1 was expected")
        try:
            class_infos(self.classes)
        except RecipeError as problem:
            raise ValueError(str(problem)) from problem


@dataclass(frozen=True, slots=True, kw_only=True)
class PrecisionSection:
    """Number format of the network."""

    type: PrecisionType = "fp16"


@dataclass(frozen=True, slots=True, kw_only=True)
class GateSection:
    """What the converted network must do as well as the original."""

    images: str | None = None
    """Folder of images, or another source of frames (`test://drive`); they are resized to `size`."""
    labels: str | None = None
    """Folder of label PNGs with the same names; `labels` beside a folder of images where that exists."""
    agreement: float = 0.999
    """Least share of pixels with the same class."""
    miou_drop: float = 0.002
    """Largest loss of mIoU against the labels."""
    max_images: int = 64
    skip: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.agreement <= 1:
            raise ValueError(f"agreement is {self.agreement}; a share from 0 to 1 was expected")
        if not 0 <= self.miou_drop <= 1:
            raise ValueError(f"miou_drop is {self.miou_drop}; from 0 to 1 was expected")
        if self.max_images < 1:
            raise ValueError(f"max_images is {self.max_images}; at least 1 was expected")


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetSection:
    """Engines to build after the export."""

    flavour: Flavour
    sm: tuple[int, ...] = ()
    """Compute capabilities without the dot (86 for 8.6), for `tensorrt_rtx` alone."""

    def __post_init__(self) -> None:
        if self.flavour == "tensorrt" and self.sm:
            raise ValueError(
                f"sm is {list(self.sm)}, and tensorrt builds for the GPU of the machine it runs on; leave sm "
                "out, or use the flavour tensorrt_rtx"
            )
        check_targets(self.flavour, self.names)

    @property
    def names(self) -> tuple[str, ...]:
        """The targets as `pixelrt build` calls them."""
        return (LOCAL,) if self.flavour == "tensorrt" else tuple(f"sm{number}" for number in self.sm)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A recipe with absolute paths."""

    model: ModelSection
    input: InputSection
    head: tuple[HeadSection, ...]
    precision: PrecisionSection = PrecisionSection()
    gate: GateSection = GateSection()
    target: tuple[TargetSection, ...] = ()
    name: str
    """Name of the recipe's folder if the file is called `recipe.toml`, else of the file."""
    text: str
    """The file as it was read."""
    images: str = ""
    """`gate.images` as it was spelled, for the manifest: no path of this machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    """What may stand in the file."""

    model: ModelSection
    input: InputSection
    head: tuple[HeadSection, ...]
    precision: PrecisionSection = PrecisionSection()
    gate: GateSection = GateSection()
    target: tuple[TargetSection, ...] = ()

    def __post_init__(self) -> None:
        names = [head.name for head in self.head]
        if not names or len(set(names)) < len(names):
            raise ValueError(
                f"the [[head]] sections are called {names}; one or more were expected, each with its own name"
            )


def read_recipe(path: Path) -> Recipe:
    """Read a recipe. Paths in it are relative to its own folder.

    Raises:
        RecipeError: If there is no such file, it is no TOML, a key is unknown or missing, or a value makes no
            sense; the message names the place.
    """
    text = _text(path)
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as problem:
        raise RecipeError(f"{path} is not valid TOML: {problem}") from problem
    for section, example in (("model", "[model]"), ("input", "[input]"), ("head", "[[head]]")):
        if section not in data:
            raise RecipeError(f"{path} has no {example} section; every recipe needs one")
    try:
        file = decode(_File, data)
    except SurpriseError as problem:
        raise RecipeError(f"{path}: {str(problem).removeprefix('_File: ')}") from problem
    folder = path.resolve().parent
    return Recipe(
        model=_model(file.model, folder),
        input=file.input,
        head=file.head,
        precision=file.precision,
        gate=_gate(file.gate, folder),
        target=file.target,
        name=folder.name if path.name == "recipe.toml" else path.stem,
        text=text,
        images=file.gate.images or "",
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as problem:
        hint = f"; is it {path / 'recipe.toml'}?" if (path / "recipe.toml").is_file() else "; check the path"
        raise RecipeError(f"the recipe {path} cannot be read: {problem.strerror}{hint}") from problem
    except UnicodeDecodeError as problem:
        raise RecipeError(f"{path} is no text in UTF-8, a TOML file was expected ({problem})") from problem


def _model(section: ModelSection, folder: Path) -> ModelSection:
    paths: dict[str, Any] = {
        name: _absolute(getattr(section, name), folder) for name in (*_SOURCES[1:], "checkpoint")
    }
    entry = section.entry
    if entry is not None:
        module, _, name = entry.rpartition(":")
        if module.endswith(".py"):
            entry = f"{_absolute(module, folder)}:{name}"
    return dataclasses.replace(section, entry=entry, **paths)


def _gate(section: GateSection, folder: Path) -> GateSection:
    images, labels = _absolute(section.images, folder), _absolute(section.labels, folder)
    return dataclasses.replace(section, images=images, labels=labels)


def _absolute(path: str | None, folder: Path) -> str | None:
    if path is None or "://" in path:
        return path
    return str((folder / Path(path).expanduser()).resolve())
