"""A variational autoencoder of small images."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pixelrt_export.models.dcgan import STRIDE, Synthesis, check_shape


class VAE(nn.Module):
    """Encoder and decoder around a latent whose prior is N(0, 1).

    Source: Kingma and Welling, "Auto-Encoding Variational Bayes", 2013. The decoder alone writes images from
    noise; the whole reconstructs an image from the mean of its posterior, without chance.

    Args:
        size: Height and width of the image, multiples of 4.
        channels: Channels of the image.
        latent: Length of the latent.
        width: Channels at full size; half and a quarter of the size have 2 and 4 times as many.

    Raises:
        ValueError: If the size is no multiple of 4, or a count is below 1.
    """

    def __init__(
        self, size: tuple[int, int] = (28, 28), channels: int = 1, latent: int = 16, width: int = 32
    ) -> None:
        super().__init__()
        self.encoder = Encoder(size, channels, latent, width)
        self.decoder = Decoder(size, channels, latent, width)

    def forward(self, image: Tensor) -> Tensor:
        """Reconstruct images from the mean of their posterior.

        Args:
            image: float[N, channels, H, W], 0..1.

        Returns:
            float[N, channels, H, W], 0..1.
        """
        mean, _ = self.encoder(image)
        reconstruction: Tensor = self.decoder(mean)
        return reconstruction

    def sample_posterior(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Draw a latent of each image, for training.

        Args:
            image: float[N, channels, H, W], 0..1.

        Returns:
            The latents, float[N, latent], by the reparametrisation of the paper's section 2.4, so that
            gradients pass; and the Kullback-Leibler divergence of each posterior from N(0, 1), float[N], in
            nats, by the paper's appendix B.
        """
        mean, log_variance = (part.float() for part in self.encoder(image))  # exact in mixed precision too
        latent = mean + torch.randn_like(mean) * torch.exp(0.5 * log_variance)
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)
        return latent, divergence


class Encoder(nn.Module):
    """The posterior of an image's latent: a normal distribution with independent components.

    Args:
        size: Height and width of the image, multiples of 4.
        channels: Channels of the image.
        latent: Length of the latent.
        width: Channels of the first layer.

    Raises:
        ValueError: If the size is no multiple of 4, or a count is below 1.
    """

    def __init__(self, size: tuple[int, int], channels: int, latent: int, width: int) -> None:
        super().__init__()
        check_shape(size, channels=channels, latent=latent, width=width)
        height, columns = size
        self.describe = nn.Sequential(
            *_layer(channels, width, kernel=3, stride=1),
            *_layer(width, 2 * width, kernel=4, stride=2),
            *_layer(2 * width, 4 * width, kernel=4, stride=2),
            nn.Flatten(),
        )
        self.posterior = nn.Linear(4 * width * (height // STRIDE) * (columns // STRIDE), 2 * latent)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log variance, each float[N, latent], of float[N, channels, H, W] in 0..1."""
        mean, log_variance = self.posterior(self.describe(image)).chunk(2, dim=1)
        return mean, log_variance


class Decoder(nn.Module):
    """An image from a latent: the transposed convolutions of a DCGAN (Radford et al., 2015), then a sigmoid.

    Args:
        size: Height and width of the image, multiples of 4.
        channels: Channels of the image.
        latent: Length of the latent, drawn from N(0, 1) to write new images.
        width: Channels at full size.

    Raises:
        ValueError: If the size is no multiple of 4, or a count is below 1.
    """

    def __init__(self, size: tuple[int, int], channels: int, latent: int, width: int) -> None:
        super().__init__()
        self.synthesis = Synthesis(size, channels, latent, width)

    def forward(self, latent: Tensor) -> Tensor:
        """Write images.

        Args:
            latent: float[N, latent].

        Returns:
            float[N, channels, H, W], 0..1: in the Bernoulli model, the probability that a pixel is set.
        """
        return torch.sigmoid(self.synthesis(latent))


def _layer(
    in_channels: int, out_channels: int, *, kernel: int, stride: int
) -> tuple[nn.Module, nn.Module, nn.Module]:
    convolution = nn.Conv2d(in_channels, out_channels, kernel, stride, padding=1, bias=False)
    return convolution, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True)
