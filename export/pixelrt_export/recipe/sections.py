"""Sections that recipes of every task have, and the parts that their sections share."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from pixelrt.errors import RecipeError
from pixelrt.manifest import ColorOrder, PrecisionType
from pixelrt.trt import LOCAL, Flavour
from pixelrt.trt.targets import check_targets
from pixelrt_export.palettes import ClassEntry, class_infos

SOURCES = ("entry", "onnx", "torchscript", "exported")

AsInTraining = Literal["dropout", "batch_norm"]
Classes = str | tuple[str | ClassEntry, ...]
"""A named palette, or the classes."""


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
    part: str | None = None
    """The submodule or method of what `entry` returns that is exported: a VAE's `decoder` or `decode`, say;
    dotted where nested."""
    as_in_training: tuple[AsInTraining, ...] = ()
    """Layers that do at test time what they did in training; all others do not."""

    def __post_init__(self) -> None:
        given = [name for name in SOURCES if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"exactly one of {', '.join(SOURCES)} was expected, found {', '.join(given) or 'none'}"
            )
        self._check_with_entry(given[0])
        if self.entry is not None and not all(self.entry.rpartition(":")[::2]):
            raise ValueError(
                f"entry is {self.entry!r}, 'module:callable' was expected, like 'my_package.nets:UNet'"
            )
        if self.part is not None and not all(self.part.split(".")):
            raise ValueError(
                f"part is {self.part!r}; the name of a submodule or method was expected, like 'decoder' or "
                "'net.decoder'"
            )
        if len(set(self.as_in_training)) < len(self.as_in_training):
            raise ValueError(f"as_in_training is {list(self.as_in_training)}; each was expected once")

    def _check_with_entry(self, source: str) -> None:
        if self.entry is not None:
            return
        if self.checkpoint is not None or self.args:
            extra = "checkpoint" if self.checkpoint is not None else "args"
            raise ValueError(f"{extra} goes with entry; a file of {source} brings its own weights")
        if self.part is not None or self.as_in_training:
            extra = "part" if self.part is not None else "as_in_training"
            raise ValueError(
                f"{extra} goes with entry; a file of {source} is taken as it was saved: save the one you mean"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class PrecisionSection:
    """Number format of the network."""

    type: PrecisionType = "fp16"


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
class PixelsSection:
    """An image as a network takes it."""

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

    def __post_init__(self) -> None:
        check_size(self.size)
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

    @property
    def channels(self) -> int:
        """Channels of the network's input."""
        return len(self.mean)


def check_size(size: tuple[int, int]) -> None:
    """Refuse a height and width that cannot be.

    Raises:
        ValueError: If one is below 1.
    """
    if min(size) < 1:
        raise ValueError(f"size is {list(size)}, height and width of at least 1 were expected")


def check_batch(batch: int) -> None:
    """Refuse a batch that holds nothing.

    Raises:
        ValueError: If it is below 1.
    """
    if batch < 1:
        raise ValueError(f"batch is {batch}, at least 1 was expected")


def check_max_images(count: int) -> None:
    """Refuse a gate without images.

    Raises:
        ValueError: If it is below 1.
    """
    if count < 1:
        raise ValueError(f"max_images is {count}; at least 1 was expected")


def check_classes(classes: Classes) -> int:
    """Refuse classes that make no sense, and count them.

    Raises:
        ValueError: If the palette is unknown, or names are missing or stand there twice.
    """
    try:
        return len(class_infos(classes))
    except RecipeError as problem:
        raise ValueError(str(problem)) from problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What recipes of every task say. Paths are absolute."""

    model: ModelSection
    precision: PrecisionSection = PrecisionSection()
    target: tuple[TargetSection, ...] = ()
    name: str
    """Name of the recipe's folder if the file is called `recipe.toml`, else of the file."""
    text: str
    """The file as it was read."""
    images: str = ""
    """Where the gate's images or masks come from, as it was spelled, for the manifest: no path of this
    machine."""
