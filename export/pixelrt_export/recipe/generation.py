"""Recipes of generation: noise, a class, a mask or an image in, an image out."""

from __future__ import annotations

from dataclasses import dataclass, field

from pixelrt.manifest import ColorOrder, Distribution, Form, OutputActivation, ValueRange
from pixelrt_export.recipe.sections import (
    Classes,
    ModelSection,
    PixelsSection,
    PrecisionSection,
    Recipe,
    TargetSection,
    check_batch,
    check_classes,
    check_max_images,
    check_size,
)

Parameter = int | str | None
"""Position or name of the parameter of forward(); None: the next that is free."""

INPUTS = ("latent", "label", "mask", "image")
"""The sections of inputs, in the order in which they take the parameters of forward() that are free."""
MAX_CLASSES = 256
"""A mask is made of bytes."""
MAX_SEED = 2**31 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentSection:
    """The noise that images are made of."""

    size: tuple[int, ...]
    """One number for a vector, or channels, height and width."""
    distribution: Distribution = "normal"
    """`normal`: mean 0, variance 1; `uniform`: from -1 to 1."""
    input: Parameter = None

    def __post_init__(self) -> None:
        if not self.size or min(self.size) < 1:
            raise ValueError(
                f"size is {list(self.size)}; the length of a vector, as in [64], or channels, height "
                "and width of at least 1 were expected"
            )
        _check_input(self.input)


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelSection:
    """The class of the image."""

    names: tuple[str, ...]
    """In the order of their ids."""
    form: Form = "index"
    """What forward() takes: ids int64[N], or one_hot float32[N, K]."""
    input: Parameter = None

    def __post_init__(self) -> None:
        twice = sorted({name for name in self.names if self.names.count(name) > 1})
        if not self.names or not all(self.names) or twice:
            raise ValueError(
                f"names are {list(self.names)}; one or more names of classes were expected, each once"
            )
        _check_input(self.input)


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskSection:
    """The mask that the image is painted from."""

    size: tuple[int, int]
    """Height and width at which forward() takes it; masks of other sizes are resized in the graph."""
    classes: Classes
    form: Form = "one_hot"
    """What forward() takes: one_hot float32[N, K, H, W], or ids int64[N, H, W]."""
    input: Parameter = None

    def __post_init__(self) -> None:
        check_size(self.size)
        if (count := check_classes(self.classes)) > MAX_CLASSES:
            raise ValueError(f"{count} classes; a mask is made of bytes, at most {MAX_CLASSES} were expected")
        _check_input(self.input)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSection(PixelsSection):
    """The image that another one is made from."""

    input: Parameter = None

    def __post_init__(self) -> None:
        PixelsSection.__post_init__(self)  # super() does not find the class that slots made anew
        _check_input(self.input)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputSection:
    """The image that the network gives."""

    range: ValueRange
    """Of the values after the activation: tanh -1..1, sigmoid 0..1, none 0..255."""
    activation: OutputActivation = "none"
    """What the network leaves out, and the graph applies."""
    output: int | str | None = None
    """Index, key or attribute of the network's output; may be left out where there is only one."""
    color: ColorOrder = "rgb"
    """Order of the network's three channels."""
    frame_color: ColorOrder = "rgb"
    """Order in which images come out."""
    batch: int = 16
    """Largest number of images at once."""

    def __post_init__(self) -> None:
        check_batch(self.batch)
        if self.activation not in ("none", self.range):
            raise ValueError(
                f"activation = {self.activation!r} does not give the range {self.range!r}; set range = "
                f"{self.activation!r}, or leave activation out if the network applies one itself"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationGateSection:
    """How near the images of the converted network must be to those of the original. The worst one counts."""

    psnr: float = 40.0
    """Least peak signal-to-noise ratio, dB."""
    ssim: float = 0.99
    """Least structural similarity."""
    max_difference: int = 32
    """Largest difference of a byte."""
    samples: int = 32
    """How many images are made, where the network takes neither masks nor images."""
    seed: int = 0
    """Of latents and noise."""
    masks: str | None = None
    """Folder of PNGs of class ids, or a source with ground truth (`test://drive`)."""
    images: str | None = None
    """Folder of images, or another source of frames."""
    max_images: int = 64
    """How many masks or images are used, evenly spread over what is there."""
    skip: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.psnr < float("inf"):
            raise ValueError(f"psnr is {self.psnr}; decibels of at least 0 were expected, like 40")
        if not 0 <= self.ssim <= 1:
            raise ValueError(f"ssim is {self.ssim}; from 0 to 1 was expected")
        if not 0 <= self.max_difference <= 255:
            raise ValueError(f"max_difference is {self.max_difference}; a byte, 0 to 255, was expected")
        if self.samples < 1:
            raise ValueError(f"samples is {self.samples}; at least 1 was expected")
        if not 0 <= self.seed <= MAX_SEED:
            raise ValueError(f"seed is {self.seed}; from 0 to {MAX_SEED} was expected")
        check_max_images(self.max_images)


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationFile:
    """What may stand in the file, but for `task`."""

    model: ModelSection
    output: OutputSection
    latent: LatentSection | None = None
    label: LabelSection | None = None
    mask: MaskSection | None = None
    image: ImageSection | None = None
    precision: PrecisionSection = field(default_factory=PrecisionSection)
    gate: GenerationGateSection = GenerationGateSection()
    target: tuple[TargetSection, ...] = ()

    def __post_init__(self) -> None:
        check_inputs(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRecipe(Recipe):
    """A recipe of a network that writes images, from any combination of inputs."""

    output: OutputSection
    latent: LatentSection | None = None
    label: LabelSection | None = None
    mask: MaskSection | None = None
    image: ImageSection | None = None
    gate: GenerationGateSection = GenerationGateSection()

    def __post_init__(self) -> None:
        check_inputs(self)


def check_inputs(recipe: GenerationFile | GenerationRecipe) -> None:
    """Refuse a generator of nothing, and what does not fit its inputs.

    Raises:
        ValueError: If there is no input, two are for one parameter, or the gate names masks or images for a
            network that takes none.
    """
    given = {name: section for name in INPUTS if (section := getattr(recipe, name)) is not None}
    if not given:
        raise ValueError(
            "there is no input; one or more of [latent], [label], [mask] and [image] were expected: what "
            "forward() takes"
        )
    taken: dict[int | str, str] = {}
    for name, section in given.items():
        if section.input is not None and section.input in taken:
            raise ValueError(
                f"[{taken[section.input]}] and [{name}] both have input = {section.input!r}; one parameter "
                "of forward() for each was expected"
            )
        taken[section.input] = name
    for key, section_name in (("masks", "mask"), ("images", "image")):
        if getattr(recipe.gate, key) is not None and section_name not in given:
            raise ValueError(
                f"gate.{key} is given, and there is no [{section_name}] section: the network takes no "
                f"{section_name}; leave gate.{key} out, or describe the input in [{section_name}]"
            )


def _check_input(parameter: Parameter) -> None:
    if parameter == "" or (isinstance(parameter, int) and parameter < 0):
        raise ValueError(
            f"input is {parameter!r}; the name of a parameter of forward(), or its position from 0, "
            "was expected"
        )
