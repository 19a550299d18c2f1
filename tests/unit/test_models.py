"""The networks: shapes, and the classic preset layer by layer."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pixelrt_export.models import RoadUNet, UNet, classic_unet


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("upsampling", ["nearest", "bilinear"])
@pytest.mark.parametrize(("in_channels", "num_classes", "widths"), [(1, 1, (4, 8)), (4, 5, (4, 6, 8, 10))])
def test_unet_classifies_every_pixel(
    in_channels: int, num_classes: int, widths: tuple[int, ...], upsampling: str, batch_norm: bool
) -> None:
    model = UNet(in_channels, num_classes, widths, upsampling=upsampling, batch_norm=batch_norm)  # type: ignore[arg-type]
    height, width = 3 * model.stride, 5 * model.stride
    assert model(torch.zeros(2, in_channels, height, width)).shape == (2, num_classes, height, width)
    assert any(isinstance(layer, nn.BatchNorm2d) for layer in model.modules()) == batch_norm


def test_classic_unet_is_the_one_of_its_description() -> None:
    model = classic_unet()
    convolutions = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d)]
    down = [(4, 64), (64, 128), (128, 256), (256, 512), (512, 1024)]
    up = [(512 + 1024, 512), (256 + 512, 256), (128 + 256, 128), (64 + 128, 64)]
    assert [(layer.in_channels, layer.out_channels) for layer in convolutions] == [*down, *up, (64, 2)]
    assert [layer.kernel_size for layer in convolutions] == [(3, 3)] * 9 + [(1, 1)]
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in model.modules())
    assert sum(isinstance(layer, nn.ReLU) for layer in model.modules()) == 9
    assert model.upsample.mode == "nearest"


def test_classic_unet_returns_probabilities() -> None:
    torch.manual_seed(0)
    output = classic_unet(in_channels=3, num_classes=4)(torch.randn(1, 3, 32, 48))
    assert output.shape == (1, 4, 32, 48)
    torch.testing.assert_close(output.sum(1), torch.ones(1, 32, 48))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"in_channels": 0}, "in_channels is 0"),
        ({"widths": (8,)}, r"widths is \(8,\)"),
        ({"upsampling": "cubic"}, "upsampling is 'cubic'"),
        ({"activation": "relu"}, "activation is 'relu'"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        UNet(**arguments)  # type: ignore[arg-type]


def test_road_unet_sees_the_whole_image() -> None:
    torch.manual_seed(0)
    model = RoadUNet(width=4).eval()
    image = torch.randn(1, 3, 64, 96)
    changed = image.clone()
    changed[..., :8, :8] += 5
    before, after = model(image), model(changed)
    assert before.shape == (1, 11, 64, 96)
    assert (before[..., -8:, -8:] != after[..., -8:, -8:]).any()
