"""A U-Net for road scenes that runs at camera rate on two CPU cores."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

STRIDE = 16
"""Height and width of the input must be multiples of this."""

_CONTEXT_DILATIONS = (1, 2, 1, 4, 1, 8)


class RoadUNet(nn.Module):
    """U-Net with strided residual stages, a dilated depthwise bottleneck and a global context.

    Encoder and decoder with skip connections follow Ronneberger et al., "U-Net: Convolutional Networks for
    Biomedical Image Segmentation", 2015. Downsampling is by strided convolutions into residual blocks (He et
    al., "Deep Residual Learning", 2016); the level at 1/16 uses inverted depthwise blocks (Sandler et al.,
    "MobileNetV2", 2018) with growing dilation (Yu and Koltun, 2016) and the mean over the whole image
    (Liu et al., "ParseNet", 2015), so that a pixel sees the whole scene at little cost.

    Args:
        in_channels: Channels of the input.
        num_classes: Channels of the output.
        width: Channels at half resolution; the stages at 1/4, 1/8 and 1/16 have 2, 4 and 6 times as many.
    """

    def __init__(self, in_channels: int = 3, num_classes: int = 11, width: int = 32) -> None:
        super().__init__()
        half, quarter, eighth, sixteenth = width, 2 * width, 4 * width, 6 * width
        self.stage2 = nn.Sequential(_conv(in_channels, half, stride=2), _conv(half, half))
        self.stage4 = nn.Sequential(_conv(half, quarter, stride=2), *[Residual(quarter) for _ in range(2)])
        self.stage8 = nn.Sequential(_conv(quarter, eighth, stride=2), *[Residual(eighth) for _ in range(2)])
        blocks = [InvertedDepthwise(sixteenth, dilation) for dilation in _CONTEXT_DILATIONS]
        self.stage16 = nn.Sequential(_conv(eighth, sixteenth, stride=2), *blocks)
        self.context = GlobalContext(sixteenth)
        self.up8 = UpBlock(sixteenth, eighth, 3 * width)
        self.up4 = UpBlock(3 * width, quarter, quarter)
        self.up2 = UpBlock(quarter, half, half)
        self.classify = nn.Conv2d(half, num_classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Classify every pixel.

        Args:
            image: float[N, in_channels, H, W], normalised; H and W multiples of 16.

        Returns:
            Logits, float[N, num_classes, H, W].
        """
        return self.decode(self.encode(image))

    def encode(self, image: Tensor) -> list[Tensor]:
        """Features at 1/2, 1/4, 1/8 and 1/16 of the input size, in this order."""
        features = [self.stage2(image)]
        for stage in (self.stage4, self.stage8, self.stage16):
            features.append(stage(features[-1]))
        features[-1] = self.context(features[-1])
        return features

    def decode(self, features: list[Tensor]) -> Tensor:
        """Logits at the input size from the features of `encode`."""
        half, quarter, eighth, sixteenth = features
        x = self.up2(self.up4(self.up8(sixteenth, eighth), quarter), half)
        return functional.interpolate(
            self.classify(x), scale_factor=2.0, mode="bilinear", align_corners=False
        )


class Residual(nn.Module):
    """Two 3x3 convolutions around an identity shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = _conv(channels, channels)
        self.second = _conv(channels, channels, activate=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return float[N, channels, H, W] from the same shape."""
        result: Tensor = functional.relu(x + self.second(self.first(x)))
        return result


class InvertedDepthwise(nn.Module):
    """A dilated 5x5 depthwise convolution and a pointwise expansion by two, around an identity shortcut."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.spatial = _conv(channels, channels, kernel=5, dilation=dilation, groups=channels)
        self.expand = _conv(channels, 2 * channels, kernel=1)
        self.project = _conv(2 * channels, channels, kernel=1, activate=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return float[N, channels, H, W] from the same shape."""
        result: Tensor = x + self.project(self.expand(self.spatial(x)))
        return result


class GlobalContext(nn.Module):
    """Adds what the whole image looks like to every position."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.describe = nn.Sequential(
            nn.Conv2d(channels, channels, 1), nn.ReLU(), nn.Conv2d(channels, channels, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return float[N, channels, H, W] from the same shape."""
        described: Tensor = functional.relu(x + self.describe(x.mean(dim=(2, 3), keepdim=True)))
        return described


class UpBlock(nn.Module):
    """Doubles the size, joins the encoder's features of that size, and mixes them."""

    def __init__(self, in_channels: int, skip_channels: int, out_channels: int) -> None:
        super().__init__()
        self.reduce = _conv(in_channels, out_channels, kernel=1)
        self.mix = _conv(out_channels + skip_channels, out_channels)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Return float[N, out_channels, 2H, 2W] from x at (H, W) and skip at (2H, 2W)."""
        x = functional.interpolate(self.reduce(x), scale_factor=2.0, mode="bilinear", align_corners=False)
        mixed: Tensor = self.mix(torch.cat([x, skip], dim=1))
        return mixed


def _conv(
    in_channels: int,
    out_channels: int,
    *,
    kernel: int = 3,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
    activate: bool = True,
) -> nn.Sequential:
    padding = dilation * (kernel // 2)
    layers: list[nn.Module] = [
        nn.Conv2d(in_channels, out_channels, kernel, stride, padding, dilation, groups, bias=False),
        nn.BatchNorm2d(out_channels),
    ]
    if activate:
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)
