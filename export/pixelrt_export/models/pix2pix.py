"""The image-to-image generator of pix2pix."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from pixelrt_export.models.spade import Norm, plain_norm

_SLOPE = 0.2
_INNER_WITH_DROPOUT = 3


class Pix2PixGenerator(nn.Module):
    """U-Net from an image or a one-hot mask to an image.

    Source: Isola, Zhu, Zhou and Efros, "Image-to-Image Translation with Conditional Adversarial Networks",
    CVPR 2017: strided 4x4 convolutions down to a bottleneck and back with skip connections, no norm on the
    first and the innermost level. On the way back upsampling and a 3x3 convolution stand in the place of the
    transposed convolution (Odena et al., "Deconvolution and Checkerboard Artifacts", 2016).

    In the paper the dropout of the three innermost levels is the generator's source of randomness and stays
    on at test time. Here it is a plain `nn.Dropout`, which `eval()` turns off; the recipe line
    `as_in_training = ["dropout"]` keeps it on in the exported network, as an explicit input of noise.

    Args:
        in_channels: Channels of the input: 3 for RGB, the number of classes for a one-hot mask.
        out_channels: Channels of the image.
        widths: Channels of each level after its strided convolution, the finest first.
        dropout: Probability of the dropout, 0.5 in the paper; 0 for none.
        norm: `batch` or `instance` (the paper's batch norm with a batch of one), with scale and shift.

    Raises:
        ValueError: If a count is below 1, `dropout` is outside 0..1 or `norm` is unknown.
    """

    def __init__(
        self,
        in_channels: int = 11,
        out_channels: int = 3,
        widths: Sequence[int] = (32, 64, 128, 160, 160),
        *,
        dropout: float = 0.5,
        norm: Norm = "batch",
    ) -> None:
        super().__init__()
        _check(in_channels, out_channels, widths, dropout)
        self.in_channels = in_channels
        self.stride = 2 ** len(widths)
        last = len(widths) - 1
        self.down = nn.ModuleList(
            _down(before, width, norm if 0 < index < last else None)
            for index, (before, width) in enumerate(pairwise([in_channels, *widths]))
        )
        self.up = nn.ModuleList()
        for index in range(last, 0, -1):
            entering = widths[index] * (1 if index == last else 2)
            drop = dropout if last - index < _INNER_WITH_DROPOUT else 0.0
            self.up.append(_up(entering, widths[index - 1], norm, drop))
        self.to_image = nn.Sequential(
            nn.ReLU(),
            nn.Upsample(scale_factor=2, mode="nearest"),
            nn.Conv2d(2 * widths[0], out_channels, 3, padding=1),
            nn.Tanh(),
        )

    def forward(self, image: Tensor) -> Tensor:
        """Translate.

        Args:
            image: float[N, in_channels, H, W], an image or a one-hot mask; H and W multiples of `stride`.

        Returns:
            float[N, out_channels, H, W] in -1..1.

        Raises:
            ValueError: If the input's shape does not fit.
        """
        _, channels, height, width = image.shape
        if channels != self.in_channels or height % self.stride or width % self.stride:
            raise ValueError(
                f"the input is {tuple(image.shape)}, expected (N, {self.in_channels}, H, W) with H and W "
                f"multiples of {self.stride}"
            )
        features = [image]
        for level in self.down:
            features.append(level(features[-1]))
        x = features.pop()
        for level in self.up:
            x = torch.cat([level(x), features.pop()], dim=1)
        result: Tensor = self.to_image(x)
        return result


def _down(in_channels: int, out_channels: int, norm: Norm | None) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(in_channels, out_channels, 4, stride=2, padding=1)]
    if norm is not None:
        layers.append(plain_norm(out_channels, norm, affine=True))
    return nn.Sequential(*layers, nn.LeakyReLU(_SLOPE))


def _up(in_channels: int, out_channels: int, norm: Norm, dropout: float) -> nn.Sequential:
    layers = [
        nn.ReLU(),
        nn.Upsample(scale_factor=2, mode="nearest"),
        nn.Conv2d(in_channels, out_channels, 3, padding=1),
        plain_norm(out_channels, norm, affine=True),
    ]
    if dropout:
        layers.append(nn.Dropout(dropout))
    return nn.Sequential(*layers)


def _check(in_channels: int, out_channels: int, widths: Sequence[int], dropout: float) -> None:
    for name, value in {"in_channels": in_channels, "out_channels": out_channels}.items():
        if value < 1:
            raise ValueError(f"{name} is {value}, expected at least 1")
    if len(widths) < 2 or min(widths) < 1:
        raise ValueError(f"widths is {tuple(widths)}, expected two or more levels of at least 1 channel each")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout is {dropout}, expected a probability of 0 or more and below 1")
