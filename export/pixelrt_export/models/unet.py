"""The U-Net of Ronneberger et al., with its depth, widths and details as arguments."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

Upsampling = Literal["nearest", "bilinear"]
Activation = Literal["none", "softmax"]


class UNet(nn.Module):
    """Encoder-decoder with skip connections.

    Source: Ronneberger, Fischer and Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation",
    MICCAI 2015, here with same-padded convolutions, and with upsampling and a convolution in the place of the
    transposed convolution (Odena et al., "Deconvolution and Checkerboard Artifacts", 2016).

    Args:
        in_channels: Channels of the input: 3 for RGB, 4 for RGB plus depth or infrared.
        num_classes: Channels of the output.
        widths: Channels of each level, the finest first; their number is the depth.
        convolutions: 3x3 convolutions per level, 2 in the paper.
        upsampling: How the way back doubles the size.
        batch_norm: Whether a batch norm follows each 3x3 convolution.
        activation: `none` returns logits; `softmax` returns probabilities over the classes.

    Raises:
        ValueError: If a count is below 1, fewer than two levels are given, or a choice is unknown.
    """

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 2,
        widths: Sequence[int] = (64, 128, 256, 512, 1024),
        *,
        convolutions: int = 2,
        upsampling: Upsampling = "bilinear",
        batch_norm: bool = True,
        activation: Activation = "none",
    ) -> None:
        super().__init__()
        _check(in_channels, num_classes, widths, convolutions)
        if activation not in ("none", "softmax"):
            raise ValueError(f"activation is {activation!r}, expected 'none' or 'softmax'")
        self.stride = 2 ** (len(widths) - 1)
        inputs = (in_channels, *widths[:-1])
        self.down = nn.ModuleList(
            _level(before, width, convolutions, batch_norm)
            for before, width in zip(inputs, widths, strict=True)
        )
        self.pool = nn.MaxPool2d(2)
        self.upsample = _doubling(upsampling)
        finer = list(pairwise(widths))
        self.up = nn.ModuleList(
            _level(width + deeper, width, convolutions, batch_norm) for width, deeper in reversed(finer)
        )
        self.classify = nn.Conv2d(widths[0], num_classes, 1)
        self.activation = nn.Softmax(dim=1) if activation == "softmax" else nn.Identity()

    def forward(self, image: Tensor) -> Tensor:
        """Classify every pixel.

        Args:
            image: float[N, in_channels, H, W]; H and W multiples of `stride`.

        Returns:
            float[N, num_classes, H, W]: logits, or probabilities where `activation` is softmax.
        """
        skips: list[Tensor] = []
        x = image
        for index, level in enumerate(self.down):
            x = level(x if index == 0 else self.pool(x))
            skips.append(x)
        for level, skip in zip(self.up, reversed(skips[:-1]), strict=True):
            x = level(torch.cat([skip, self.upsample(x)], dim=1))
        result: Tensor = self.activation(self.classify(x))
        return result


def classic_unet(in_channels: int = 4, num_classes: int = 2) -> UNet:
    """The plain five-level U-Net with probabilities out.

    64-128-256-512-1024 channels, one same-padded 3x3 convolution with ReLU per level, 2x2 max-pooling between
    levels; on the way back 2x nearest upsampling, concatenation with the level's features and one 3x3
    convolution with ReLU (512-256-128-64); a 1x1 convolution to the classes with softmax. No batch norm.
    It is exported with activation = "none": nothing is left to apply.

    Source: Ronneberger, Fischer and Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation",
    MICCAI 2015.

    Args:
        in_channels: Channels of the input.
        num_classes: Channels of the output.
    """
    return UNet(
        in_channels, num_classes, convolutions=1, upsampling="nearest", batch_norm=False, activation="softmax"
    )


def _check(in_channels: int, num_classes: int, widths: Sequence[int], convolutions: int) -> None:
    counts = {"in_channels": in_channels, "num_classes": num_classes, "convolutions": convolutions}
    for name, value in counts.items():
        if value < 1:
            raise ValueError(f"{name} is {value}, expected at least 1")
    if len(widths) < 2 or min(widths) < 1:
        raise ValueError(f"widths is {tuple(widths)}, expected two or more levels of at least 1 channel each")


def _doubling(upsampling: Upsampling) -> nn.Upsample:
    if upsampling == "nearest":
        return nn.Upsample(scale_factor=2, mode="nearest")
    if upsampling == "bilinear":
        return nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
    raise ValueError(f"upsampling is {upsampling!r}, expected 'nearest' or 'bilinear'")


def _level(in_channels: int, out_channels: int, convolutions: int, batch_norm: bool) -> nn.Sequential:
    layers: list[nn.Module] = []
    for index in range(convolutions):
        channels = in_channels if index == 0 else out_channels
        layers.append(nn.Conv2d(channels, out_channels, 3, padding=1, bias=not batch_norm))
        if batch_norm:
            layers.append(nn.BatchNorm2d(out_channels))
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)
