"""The networks that paint from masks: shapes, ranges, and what changes between training and test time."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from pixelrt_export.models import Pix2PixGenerator, SPADEGenerator

CLASSES = 4
WIDTHS = (4, 6, 8)
NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "spade": lambda **options: SPADEGenerator(CLASSES, widths=WIDTHS, hidden=5, **options),
    "pix2pix": lambda **options: Pix2PixGenerator(CLASSES, widths=WIDTHS, **options),
}


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Networks this small only wait for other threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def masks(batch: int, height: int, width: int) -> Tensor:
    """One-hot masks of blocks 4x4 pixels in size, one of them unlabelled."""
    generator = torch.Generator().manual_seed(batch)
    labels = torch.randint(CLASSES, (batch, height // 4, width // 4), generator=generator)
    hot = nn.functional.one_hot(labels, CLASSES).permute(0, 3, 1, 2).float()
    hot[:, :, 0, 0] = 0
    return nn.functional.interpolate(hot, scale_factor=4.0)


def trained(network: str, **options: object) -> nn.Module:
    """A network whose batch norms have seen masks, in evaluation mode."""
    torch.manual_seed(0)
    model = NETWORKS[network](**options)
    for _ in range(3):
        model(masks(3, 32, 48))
    return model.eval()


@pytest.mark.parametrize("norm", ["batch", "instance"])
@pytest.mark.parametrize("network", NETWORKS)
def test_paints_in_range_at_every_size_that_fits(network: str, norm: str) -> None:
    model = trained(network, norm=norm)
    for height, width in ((16, 24), (40, 16), (64, 96)):
        painted = model(masks(2, height, width))
        assert painted.shape == (2, 3, height, width)
        assert painted.abs().max() <= 1
        assert painted.std() > 1e-3


@pytest.mark.parametrize("norm", ["batch", "instance"])
@pytest.mark.parametrize("network", NETWORKS)
def test_at_test_time_a_batch_equals_its_images_one_by_one(network: str, norm: str) -> None:
    model, hot = trained(network, norm=norm), masks(4, 32, 48)
    together = model(hot)
    torch.testing.assert_close(together, model(hot), rtol=0, atol=0)
    alone = torch.cat([model(one[None]) for one in hot])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)
    assert (together[0] - together[1]).abs().max() > 1e-3


@pytest.mark.parametrize("network", NETWORKS)
def test_in_training_batch_norm_mixes_the_images(network: str) -> None:
    model, hot = trained(network).train(), masks(4, 32, 48)
    for layer in model.modules():
        if isinstance(layer, nn.Dropout):
            layer.eval()
    alone = torch.cat([model(one[None]) for one in hot])
    assert (model(hot) - alone).abs().max() > 1e-3


def test_the_sizes_of_the_defaults() -> None:
    for model in (SPADEGenerator().eval(), Pix2PixGenerator().eval()):
        assert model.stride == 32
        assert sum(tensor.numel() for tensor in model.state_dict().values()) < 2_500_000
        assert model(torch.zeros(1, 11, 32, 64)).shape == (1, 3, 32, 64)


@pytest.mark.parametrize("network", NETWORKS)
def test_a_pixel_of_the_mask_changes_the_picture_there(network: str) -> None:
    model, hot = trained(network), masks(1, 32, 48)
    changed = hot.clone()
    changed[..., 8:12, 8:12] = hot[..., 8:12, 8:12].roll(1, dims=1)
    difference = (model(hot) - model(changed)).abs().amax(dim=(0, 1))
    assert difference[8:12, 8:12].mean() > 10 * difference[-4:, -4:].mean()


def test_dropout_is_random_in_training_mode_alone() -> None:
    torch.manual_seed(0)
    model = NETWORKS["pix2pix"](dropout=0.5, norm="instance")
    hot = masks(1, 32, 48)
    assert (model(hot) - model(hot)).abs().max() > 1e-3
    model.eval()
    torch.testing.assert_close(model(hot), model(hot), rtol=0, atol=0)
    without = NETWORKS["pix2pix"](dropout=0.0, norm="instance")
    assert not any(isinstance(layer, nn.Dropout) for layer in without.modules())
    torch.testing.assert_close(without(hot), without(hot), rtol=0, atol=0)


def test_dropout_sits_in_the_innermost_levels() -> None:
    model = Pix2PixGenerator(widths=(4, 4, 4, 4, 4, 4))
    has_dropout = [any(isinstance(layer, nn.Dropout) for layer in level.modules()) for level in model.up]
    assert has_dropout == [True, True, True, False, False]


def test_a_latent_changes_the_picture() -> None:
    torch.manual_seed(0)
    model, hot = SPADEGenerator(CLASSES, widths=WIDTHS, latent=3).eval(), masks(2, 32, 48)
    latent = torch.randn(2, 3)
    painted = model(hot, latent)
    torch.testing.assert_close(painted, model(hot, latent), rtol=0, atol=0)
    assert (painted - model(hot, latent + 1)).abs().max() > 1e-3
    alone = torch.cat([model(hot[i : i + 1], latent[i : i + 1]) for i in range(2)])
    torch.testing.assert_close(painted, alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("network", NETWORKS)
def test_no_transposed_convolution(network: str) -> None:
    assert not any(isinstance(layer, nn.ConvTranspose2d) for layer in NETWORKS[network]().modules())


def test_every_parameter_learns() -> None:
    for network in NETWORKS:
        model = trained(network).train()
        (model(masks(2, 32, 48)) ** 2).mean().backward()
        idle = [name for name, value in model.named_parameters() if value.grad is None]
        assert not idle, f"{network}: {idle}"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: SPADEGenerator()(torch.zeros(1, 11, 48, 64)),
            r"\(1, 11, 48, 64\), expected .* multiples of 32",
        ),
        (lambda: SPADEGenerator()(torch.zeros(1, 12, 32, 64)), r"expected \(N, 11, H, W\)"),
        (lambda: Pix2PixGenerator()(torch.zeros(1, 11, 32, 40)), "multiples of 32"),
        (lambda: Pix2PixGenerator(3)(torch.zeros(1, 11, 32, 32)), r"expected \(N, 3, H, W\)"),
        (lambda: SPADEGenerator(latent=2)(torch.zeros(1, 11, 32, 32)), "length 2, and none was given"),
        (
            lambda: SPADEGenerator()(torch.zeros(1, 11, 32, 32), torch.zeros(1, 2)),
            "length 0, and one was given",
        ),
        (lambda: SPADEGenerator(0), "num_classes is 0"),
        (lambda: SPADEGenerator(hidden=0), "hidden is 0"),
        (lambda: SPADEGenerator(latent=-1), "latent is -1"),
        (lambda: SPADEGenerator(widths=(8,)), r"widths is \(8,\)"),
        (lambda: SPADEGenerator(norm="layer"), "norm is 'layer', expected 'batch' or 'instance'"),  # type: ignore[arg-type]
        (lambda: Pix2PixGenerator(0), "in_channels is 0"),
        (lambda: Pix2PixGenerator(widths=(8, 0)), r"widths is \(8, 0\)"),
        (lambda: Pix2PixGenerator(dropout=1.0), "dropout is 1.0"),
        (lambda: Pix2PixGenerator(norm="none"), "norm is 'none'"),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_be_is_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
