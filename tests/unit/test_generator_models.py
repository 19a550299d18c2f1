"""The small generators and the VAE: shapes, ranges, what the class changes, and arguments refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from pixelrt_export.models import VAE, ConditionalGenerator, DCGANGenerator
from pixelrt_export.models.dcgan import ConditionalDiscriminator, DCGANDiscriminator

SIZES = [((28, 28), 1), ((8, 20), 3)]


@pytest.mark.parametrize(("size", "channels"), SIZES)
def test_dcgan_writes_images_within_the_range_of_tanh(size: tuple[int, int], channels: int) -> None:
    torch.manual_seed(0)
    generator = DCGANGenerator(size, channels, latent=6, width=4)
    images = generator(10 * torch.randn(5, 6))
    assert images.shape == (5, channels, *size)
    assert images.min() < 0 < images.max()
    assert images.abs().max() <= 1


@pytest.mark.parametrize(("size", "channels"), SIZES)
def test_conditional_generator_writes_another_image_for_another_class(
    size: tuple[int, int], channels: int
) -> None:
    torch.manual_seed(0)
    generator = ConditionalGenerator(size, channels, latent=6, num_classes=3, width=4, embedding=2).eval()
    latent = torch.randn(1, 6).expand(3, 6)
    images = generator(latent, torch.tensor([0, 1, 2]))
    assert images.shape == (3, channels, *size)
    assert images.abs().max() <= 1
    assert all((images[a] != images[b]).any() for a, b in ((0, 1), (0, 2), (1, 2)))
    assert (generator(torch.randn(3, 6), torch.tensor([0, 1, 2])) != images).flatten(1).any(1).all()


@pytest.mark.parametrize("generator", [DCGANGenerator, ConditionalGenerator])
def test_a_generator_writes_one_image_at_a_time_in_evaluation(generator: Callable[..., nn.Module]) -> None:
    torch.manual_seed(0)
    network = generator(latent=6, width=4).eval()
    inputs = [torch.randn(4, 6), torch.tensor([0, 9, 2, 2])][: 1 + (generator is ConditionalGenerator)]
    together = network(*inputs)
    alone = torch.cat([network(*(part[at : at + 1] for part in inputs)) for at in range(4)])
    torch.testing.assert_close(together, alone)
    assert torch.equal(together, network(*inputs))


@pytest.mark.parametrize(
    "network", [DCGANGenerator(width=2), ConditionalGenerator(width=2), VAE(width=2).decoder]
)
def test_transposed_convolutions_write_every_pixel_alike(network: nn.Module) -> None:
    layers = [layer for layer in network.modules() if isinstance(layer, nn.ConvTranspose2d)]
    assert len(layers) == 2
    for layer in layers:
        assert layer.kernel_size[0] % layer.stride[0] == layer.kernel_size[1] % layer.stride[1] == 0
        layer.weight.data.fill_(1.0)
        inside = layer(torch.ones(1, layer.in_channels, 6, 6))[..., 2:-2, 2:-2]
        assert torch.equal(inside, inside[..., :1, :1].expand_as(inside))


@pytest.mark.parametrize(("size", "channels"), SIZES)
def test_discriminators_judge_each_image(size: tuple[int, int], channels: int) -> None:
    torch.manual_seed(0)
    images = torch.rand(4, channels, *size) * 2 - 1
    assert DCGANDiscriminator(size, channels, width=4)(images).shape == (4,)
    judge = ConditionalDiscriminator(size, channels, num_classes=3, width=4)
    with torch.no_grad():
        judge.train(False)
        same, other = judge(images, torch.tensor([0, 0, 1, 1])), judge(images, torch.tensor([0, 2, 1, 2]))
    assert same.shape == (4,)
    assert (same == other).tolist() == [True, False, True, False]


@pytest.mark.parametrize(("size", "channels"), SIZES)
def test_vae_reconstructs_from_the_mean_without_chance(size: tuple[int, int], channels: int) -> None:
    torch.manual_seed(0)
    network = VAE(size, channels, latent=5, width=4).eval()
    images = torch.rand(3, channels, *size)
    rebuilt = network(images)
    assert rebuilt.shape == images.shape
    assert 0 <= rebuilt.min() <= rebuilt.max() <= 1
    assert torch.equal(rebuilt, network(images))
    mean, log_variance = network.encoder(images)
    assert mean.shape == log_variance.shape == (3, 5)
    assert torch.equal(rebuilt, network.decoder(mean))


def test_vae_samples_its_posterior() -> None:
    torch.manual_seed(0)
    network = VAE((8, 8), 1, latent=3, width=2).eval()
    image = torch.rand(1, 1, 8, 8)
    with torch.no_grad():
        mean, log_variance = network.encoder(image)
        latents, _ = network.sample_posterior(image.expand(20_000, 1, 8, 8))
    torch.testing.assert_close(latents.mean(0), mean[0], atol=0.05, rtol=0)
    torch.testing.assert_close(latents.var(0), log_variance[0].exp(), atol=0.05, rtol=0.05)


def test_the_divergence_is_the_one_that_torch_finds() -> None:
    torch.manual_seed(0)
    network = VAE((8, 8), 1, latent=3, width=2).eval()
    nn.init.normal_(network.encoder.posterior.bias)
    images = torch.rand(6, 1, 8, 8)
    mean, log_variance = network.encoder(images)
    posterior = torch.distributions.Normal(mean, torch.exp(0.5 * log_variance))
    expected = torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(network.sample_posterior(images)[1], expected)


@pytest.mark.parametrize(
    ("network", "arguments", "message"),
    [
        (DCGANGenerator, {"size": (30, 28)}, r"size is \(30, 28\), expected a height and a width that are"),
        (DCGANGenerator, {"size": (28, 0)}, r"size is \(28, 0\)"),
        (DCGANGenerator, {"size": (28, 28, 1)}, r"size is \(28, 28, 1\)"),
        (DCGANGenerator, {"latent": 0}, "latent is 0, expected at least 1"),
        (ConditionalGenerator, {"latent": -1}, "latent is -1"),
        (ConditionalGenerator, {"num_classes": 0}, "num_classes is 0"),
        (ConditionalGenerator, {"embedding": 0}, "embedding is 0"),
        (DCGANDiscriminator, {"channels": 0}, "channels is 0"),
        (ConditionalDiscriminator, {"num_classes": 0}, "num_classes is 0"),
        (VAE, {"width": 0}, "width is 0"),
        (VAE, {"size": (28, 27)}, r"size is \(28, 27\)"),
    ],
)
def test_arguments_that_make_no_network_are_named(
    network: Callable[..., nn.Module], arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        network(**arguments)
