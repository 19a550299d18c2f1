"""Generators of small images from noise, plain and conditioned on a class, and their discriminators."""

from __future__ import annotations

import torch
from torch import Tensor, nn

STRIDE = 4
"""Height and width of the image must be multiples of this."""


class Synthesis(nn.Module):
    """An image from a latent, before any activation.

    The latent is projected to a quarter of the image's size and doubled twice by transposed convolutions,
    each with batch norm and ReLU, as in Radford, Metz and Chintala, "Unsupervised Representation Learning
    with Deep Convolutional Generative Adversarial Networks", 2015. Their kernel, 4, is a multiple of their
    stride, 2, so that every pixel is written by as many weights as its neighbours (Odena, Dumoulin and Olah,
    "Deconvolution and Checkerboard Artifacts", 2016); a last 3x3 convolution joins the channels.

    Args:
        size: Height and width of the image, multiples of 4.
        channels: Channels of the image.
        latent: Length of the latent.
        width: Channels at full size; half and a quarter of the size have 2 and 4 times as many.

    Raises:
        ValueError: If the size is no multiple of 4, or a count is below 1.
    """

    def __init__(self, size: tuple[int, int], channels: int, latent: int, width: int) -> None:
        super().__init__()
        check_shape(size, channels=channels, latent=latent, width=width)
        height, columns = size
        self.project = nn.Sequential(
            nn.Linear(latent, 4 * width * (height // STRIDE) * (columns // STRIDE), bias=False),
            nn.Unflatten(1, (4 * width, height // STRIDE, columns // STRIDE)),
            nn.BatchNorm2d(4 * width),
            nn.ReLU(inplace=True),
        )
        self.enlarge = nn.Sequential(_doubled(4 * width, 2 * width), _doubled(2 * width, width))
        self.join = nn.Conv2d(width, channels, 3, padding=1)

    def forward(self, latent: Tensor) -> Tensor:
        """Return float[N, channels, H, W], unbounded, from float[N, latent]."""
        image: Tensor = self.join(self.enlarge(self.project(latent)))
        return image


class DCGANGenerator(nn.Module):
    """The generator of a DCGAN: an image from noise.

    Source: Radford, Metz and Chintala, "Unsupervised Representation Learning with Deep Convolutional
    Generative Adversarial Networks", 2015.

    Args:
        size: Height and width of the image, multiples of 4.
        channels: Channels of the image.
        latent: Length of the latent, drawn from N(0, 1).
        width: Channels at full size.

    Raises:
        ValueError: If the size is no multiple of 4, or a count is below 1.
    """

    def __init__(
        self, size: tuple[int, int] = (28, 28), channels: int = 1, latent: int = 64, width: int = 32
    ) -> None:
        super().__init__()
        self.synthesis = Synthesis(size, channels, latent, width)

    def forward(self, latent: Tensor) -> Tensor:
        """Write images.

        Args:
            latent: float[N, latent].

        Returns:
            float[N, channels, H, W], -1..1.
        """
        return torch.tanh(self.synthesis(latent))


class ConditionalGenerator(nn.Module):
    """A generator that is told the class of the image.

    The class is embedded and joined to the latent, as in Mirza and Osindero, "Conditional Generative
    Adversarial Nets", 2014; the rest is a DCGAN (Radford et al., 2015). As the class enters at the first
    layer alone, every batch norm still folds into the convolution before it.

    Args:
        size: Height and width of the image, multiples of 4.
        channels: Channels of the image.
        latent: Length of the latent, drawn from N(0, 1).
        num_classes: Number of classes.
        width: Channels at full size.
        embedding: Length of the vector that stands for a class.

    Raises:
        ValueError: If the size is no multiple of 4, or a count is below 1.
    """

    def __init__(
        self,
        size: tuple[int, int] = (28, 28),
        channels: int = 1,
        latent: int = 64,
        num_classes: int = 10,
        width: int = 32,
        *,
        embedding: int = 32,
    ) -> None:
        super().__init__()
        check_shape(size, latent=latent, num_classes=num_classes, embedding=embedding)
        self.embed = nn.Embedding(num_classes, embedding)
        self.synthesis = Synthesis(size, channels, latent + embedding, width)

    def forward(self, latent: Tensor, label: Tensor) -> Tensor:
        """Write images of the classes asked for.

        Args:
            latent: float[N, latent].
            label: int64[N], class ids.

        Returns:
            float[N, channels, H, W], -1..1.
        """
        return torch.tanh(self.synthesis(torch.cat([latent, self.embed(label)], dim=1)))


class DCGANDiscriminator(nn.Module):
    """Judges whether images are real; needed for training alone.

    Strided convolutions, batch norm after all but the first, and leaky ReLU, as in Radford et al., 2015. In
    training a batch is judged as a whole, so real and generated images go in as batches of their own.

    Args:
        size: Height and width of the image, multiples of 4.
        channels: Channels of the image.
        width: Channels at half size; a quarter of the size has 2 and 4 times as many.

    Raises:
        ValueError: If the size is no multiple of 4, or a count is below 1.
    """

    def __init__(self, size: tuple[int, int] = (28, 28), channels: int = 1, width: int = 32) -> None:
        super().__init__()
        check_shape(size, channels=channels, width=width)
        height, columns = size
        self.describe = nn.Sequential(
            nn.Conv2d(channels, width, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2, inplace=True),
            *_judging(width, 2 * width, kernel=4, stride=2),
            *_judging(2 * width, 4 * width, kernel=3, stride=1),
            nn.Flatten(),
        )
        self.features = 4 * width * (height // STRIDE) * (columns // STRIDE)
        self.judge = nn.Linear(self.features, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits, float[N], large where float[N, channels, H, W] in -1..1 looks real."""
        logits: Tensor = self.judge(self.describe(image))[:, 0]
        return logits


class ConditionalDiscriminator(DCGANDiscriminator):
    """Judges whether images are real and of their class; needed for training alone.

    The class enters as in Miyato and Koyama, "cGANs with Projection Discriminator", 2018: the inner product
    of its embedding with the features is added to the logit.

    Args:
        size: Height and width of the image, multiples of 4.
        channels: Channels of the image.
        num_classes: Number of classes.
        width: Channels at half size.

    Raises:
        ValueError: If the size is no multiple of 4, or a count is below 1.
    """

    def __init__(
        self,
        size: tuple[int, int] = (28, 28),
        channels: int = 1,
        num_classes: int = 10,
        width: int = 32,
    ) -> None:
        super().__init__(size, channels, width)
        check_shape(size, num_classes=num_classes)
        self.embed = nn.Embedding(num_classes, self.features)
        nn.init.normal_(self.embed.weight, std=self.features**-0.5)

    def forward(self, image: Tensor, label: Tensor) -> Tensor:  # type: ignore[override]
        """Return logits, float[N], of float[N, channels, H, W] images and their int64[N] classes."""
        features = self.describe(image)
        projection: Tensor = (self.embed(label) * features).sum(1)
        logits: Tensor = self.judge(features)[:, 0] + projection
        return logits


def check_shape(size: tuple[int, int], **counts: int) -> None:
    """Check the arguments that the networks of this module and the VAE share.

    Raises:
        ValueError: If the size is not two multiples of 4, or a count is below 1.
    """
    if len(size) != 2 or any(length < STRIDE or length % STRIDE for length in size):
        raise ValueError(
            f"size is {tuple(size)}, expected a height and a width that are multiples of {STRIDE}"
        )
    for name, value in counts.items():
        if value < 1:
            raise ValueError(f"{name} is {value}, expected at least 1")


def _doubled(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.ConvTranspose2d(in_channels, out_channels, 4, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


def _judging(
    in_channels: int, out_channels: int, *, kernel: int, stride: int
) -> tuple[nn.Module, nn.Module, nn.Module]:
    convolution = nn.Conv2d(in_channels, out_channels, kernel, stride, padding=1, bias=False)
    return convolution, nn.BatchNorm2d(out_channels), nn.LeakyReLU(0.2, inplace=True)
