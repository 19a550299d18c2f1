"""The manifest of a bundle that writes images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pixelrt.manifest.base import Check, ClassInfo, ColorOrder, Gate, Manifest, Preprocess
from pixelrt.manifest.sizes import check_sides

Distribution = Literal["normal", "uniform"]
NoiseDistribution = Literal["normal", "unit"]
ValueRange = Literal["tanh", "sigmoid", "none"]
Form = Literal["index", "one_hot"]
"""What a network takes for a label or a mask: ids int64, or float32 with a channel per class."""
OutputActivation = Literal["none", "tanh", "sigmoid"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentInfo:
    """The latent that a generator takes: the graph's input `latent`, float32[batch, *size]."""

    size: tuple[int, ...]
    """One number for a vector, or channels, height and width."""
    distribution: Distribution
    """`normal`: mean 0, variance 1; `uniform`: from -1 to 1."""

    def __post_init__(self) -> None:
        check_sides("size", self.size)


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseInfo:
    """Randomness inside a network, made an input of the graph: `noise_0`, ... float32[batch, *size]."""

    name: str
    size: tuple[int, ...]
    distribution: NoiseDistribution
    """`normal`: mean 0, variance 1; `unit`: uniform from 0 (included) to 1 (excluded)."""
    what: str = ""
    """What it was in the network: `dropout (p = 0.5)`, `randn_like`, ..."""

    def __post_init__(self) -> None:
        check_sides("size", self.size)


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelInfo:
    """The classes of a conditional generator: the graph's input `label`, int32[batch]."""

    names: tuple[str, ...]
    """The id is the position."""

    def __post_init__(self) -> None:
        if not self.names or len(set(self.names)) < len(self.names):
            raise ValueError(f"names are {list(self.names)}; one or more different names were expected")


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskInfo:
    """The mask that a generator paints: the graph's input `mask`, uint8[batch, mask_height, mask_width]."""

    size: tuple[int, int]
    """Height and width at which the network takes it."""
    classes: tuple[ClassInfo, ...]
    form: Form = "one_hot"
    """What the network takes. With `one_hot`, ids that are no class are painted as nothing: unlabelled. With
    `index` they have no meaning; the graph takes the last class for them."""

    def __post_init__(self) -> None:
        check_sides("size", self.size)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputInfo:
    """What a generator gives: the graph's output `generated`, uint8[batch, H, W, C]."""

    size: tuple[int, int]
    """Height and width."""
    channels: Literal[1, 3]
    range: ValueRange
    """Of the network's values: `tanh` -1..1, `sigmoid` 0..1, `none` 0..255."""
    activation: OutputActivation = "none"
    """What the graph applies to the network's output first."""
    color: ColorOrder = "rgb"
    """Order of three channels as they leave the graph."""

    def __post_init__(self) -> None:
        check_sides("size", self.size)


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationCheck(Check):
    """A contender's images against PyTorch's, from the same inputs."""

    psnr: float | None
    """Of the worst image, dB, over bytes 0..255; None where every byte of every image is the same."""
    mean_psnr: float | None
    """Of all images together; None likewise."""
    ssim: float
    """Of the worst image, at most 1."""
    max_difference: int
    """Largest difference of a byte, 0..255."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationGate(Gate):
    """Limits for generated images. Each holds for the worst image."""

    psnr: float
    """Least peak signal-to-noise ratio, dB."""
    ssim: float
    """Least structural similarity."""
    max_difference: int
    """Largest difference of a byte."""
    seed: int
    """Of the latents and the noise that the images were made from."""
    checks: tuple[GenerationCheck, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationManifest(Manifest):
    """A bundle that writes images, from any combination of these inputs, each at most once."""

    task: Literal["generation"] = "generation"
    output: OutputInfo
    gate: GenerationGate
    latent: LatentInfo | None = None
    label: LabelInfo | None = None
    mask: MaskInfo | None = None
    image: Preprocess | None = None
    noise: tuple[NoiseInfo, ...] = ()

    @property
    def network_sizes(self) -> dict[str, int]:
        """See `Manifest.network_sizes`."""
        sizes: dict[str, int] = {}
        if self.mask is not None:
            sizes["mask_height"], sizes["mask_width"] = self.mask.size
        if self.image is not None:
            sizes["height"], sizes["width"] = self.image.size
        return sizes
