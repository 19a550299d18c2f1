"""A mask-to-image generator with spatially-adaptive normalisation."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

Norm = Literal["batch", "instance"]

_SLOPE = 0.2


class SPADEGenerator(nn.Module):
    """Paints an image from a mask, from coarse to fine; the mask steers every normalisation.

    Source: Park, Liu, Wang and Zhu, "Semantic Image Synthesis with Spatially-Adaptive Normalization", CVPR
    2019, made small. As there, the coarsest features are a convolution of the small mask (the paper's
    generator without an encoder), each level is a residual block with two modulated normalisations, and
    sizes double by nearest neighbour, so that there are no checkerboards. Other than there, the mask is
    averaged down to the coarser levels and not sampled, so that thin classes leave a trace at every level,
    and the shortcut is not normalised.

    Args:
        num_classes: Channels of the mask.
        out_channels: Channels of the image.
        widths: Channels of each level, the finest first; their number is the depth.
        hidden: Channels of the mask's embedding in each normalisation, at most the level's own.
        latent: Length of a noise vector that is laid over the mask everywhere, as in Schönfeld et al., "You
            Only Need Adversarial Supervision for Semantic Image Synthesis", 2021; 0 for none.
        norm: `batch` (running statistics at test time) or `instance`; both without parameters of their own.
            `instance` needs more than one pixel at the coarsest level.

    Raises:
        ValueError: If a count is too small or `norm` is unknown.
    """

    def __init__(
        self,
        num_classes: int = 11,
        out_channels: int = 3,
        widths: Sequence[int] = (16, 32, 64, 128, 160, 160),
        *,
        hidden: int = 32,
        latent: int = 0,
        norm: Norm = "batch",
    ) -> None:
        super().__init__()
        _check(num_classes, out_channels, widths, hidden, latent)
        self.num_classes, self.latent = num_classes, latent
        self.stride = 2 ** (len(widths) - 1)
        steering = num_classes + latent
        self.head = nn.Conv2d(steering, widths[-1], 3, padding=1)
        steps = list(pairwise([*widths, widths[-1]]))
        self.blocks = nn.ModuleList(
            SPADEBlock(coarser, width, steering, min(hidden, width), norm)
            for width, coarser in reversed(steps)
        )
        self.upsample = nn.Upsample(scale_factor=2, mode="nearest")
        self.to_image = nn.Conv2d(widths[0], out_channels, 3, padding=1)

    def forward(self, mask: Tensor, latent: Tensor | None = None) -> Tensor:
        """Paint.

        Args:
            mask: float[N, num_classes, H, W], one-hot (all zeros: unlabelled); H and W multiples of `stride`.
            latent: float[N, latent] where the generator has one, else None.

        Returns:
            float[N, out_channels, H, W] in -1..1.

        Raises:
            ValueError: If the mask's shape does not fit, or a latent is missing or not expected.
        """
        pyramid = [self._steering(mask, latent)]
        for _ in self.blocks[1:]:
            pyramid.append(functional.avg_pool2d(pyramid[-1], 2))
        x = self.head(pyramid[-1])
        for index, (block, steering) in enumerate(zip(self.blocks, reversed(pyramid), strict=True)):
            x = block(x if index == 0 else self.upsample(x), steering)
        return torch.tanh(self.to_image(functional.leaky_relu(x, _SLOPE)))

    def _steering(self, mask: Tensor, latent: Tensor | None) -> Tensor:
        _, classes, height, width = mask.shape
        if classes != self.num_classes or height % self.stride or width % self.stride:
            raise ValueError(
                f"the mask is {tuple(mask.shape)}, expected (N, {self.num_classes}, H, W) with H and W "
                f"multiples of {self.stride}"
            )
        if (latent is None) != (self.latent == 0):
            given = "none was given" if latent is None else "one was given"
            raise ValueError(f"this generator has a latent of length {self.latent}, and {given}")
        if latent is None:
            return mask
        return torch.cat([mask, latent[:, :, None, None].expand(-1, -1, height, width)], dim=1)


class SPADEBlock(nn.Module):
    """Two 3x3 convolutions, a modulated normalisation before each, around a shortcut."""

    def __init__(
        self, in_channels: int, out_channels: int, steering: int, hidden: int, norm: Norm = "batch"
    ) -> None:
        super().__init__()
        self.first_norm = SPADE(in_channels, steering, hidden, norm)
        self.first = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.second_norm = SPADE(out_channels, steering, hidden, norm)
        self.second = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.shortcut: nn.Module = nn.Identity()
        if in_channels != out_channels:
            self.shortcut = nn.Conv2d(in_channels, out_channels, 1, bias=False)

    def forward(self, x: Tensor, steering: Tensor) -> Tensor:
        """Return float[N, out_channels, H, W] from x and the mask at the same height and width."""
        inner = self.first(functional.leaky_relu(self.first_norm(x, steering), _SLOPE))
        inner = self.second(functional.leaky_relu(self.second_norm(inner, steering), _SLOPE))
        result: Tensor = self.shortcut(x) + inner
        return result


class SPADE(nn.Module):
    """Normalises, then scales and shifts every pixel by what the mask shows there."""

    def __init__(self, channels: int, steering: int, hidden: int, norm: Norm = "batch") -> None:
        super().__init__()
        self.norm = plain_norm(channels, norm)
        self.embed = nn.Conv2d(steering, hidden, 3, padding=1)
        self.scale_and_shift = nn.Conv2d(hidden, 2 * channels, 3, padding=1)

    def forward(self, x: Tensor, steering: Tensor) -> Tensor:
        """Return float[N, channels, H, W] from x and the mask at the same height and width."""
        embedded = functional.relu(self.embed(steering))
        scale, shift = self.scale_and_shift(embedded).chunk(2, dim=1)
        result: Tensor = self.norm(x) * (1 + scale) + shift
        return result


def plain_norm(channels: int, norm: Norm, *, affine: bool = False) -> nn.Module:
    """A normalisation by name.

    Raises:
        ValueError: If the name is unknown.
    """
    if norm == "batch":
        return nn.BatchNorm2d(channels, affine=affine)
    if norm == "instance":
        return nn.InstanceNorm2d(channels, affine=affine)
    raise ValueError(f"norm is {norm!r}, expected 'batch' or 'instance'")


def _check(num_classes: int, out_channels: int, widths: Sequence[int], hidden: int, latent: int) -> None:
    counts = {"num_classes": num_classes, "out_channels": out_channels, "hidden": hidden}
    for name, value in counts.items():
        if value < 1:
            raise ValueError(f"{name} is {value}, expected at least 1")
    if latent < 0:
        raise ValueError(f"latent is {latent}, expected a length, or 0 for none")
    if len(widths) < 2 or min(widths) < 1:
        raise ValueError(f"widths is {tuple(widths)}, expected two or more levels of at least 1 channel each")
