"""The deployed graph of a generator against PyTorch and NumPy, in ONNX Runtime and OpenVINO."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any

import numpy as np
import onnxruntime
import openvino_runs
import pytest
import torch
from numpy.typing import NDArray
from onnx import ModelProto
from torch import nn
from torch.nn import functional

from pixelrt.manifest import ClassInfo, LabelInfo, LatentInfo, MaskInfo, NoiseInfo, Preprocess
from pixelrt_export.fuse_generator import GeneratorSpec, fuse_generator, generator_axes

SIZE = (16, 24)
CLASSES = 5
MEAN, STD = (0.5, 0.4, 0.6), (0.5, 0.25, 0.3)
CLASS_INFOS = tuple(ClassInfo(name=str(index), color=(index, 0, 0)) for index in range(CLASSES))
LATENT = LatentInfo(size=(6,), distribution="normal")
LABEL = LabelInfo(names=("a", "b", "c", "d"))
MASK = MaskInfo(size=SIZE, classes=CLASS_INFOS)
IMAGE = Preprocess(size=SIZE, channels=3, mean=MEAN, std=STD, color="rgb")
NOISE = (NoiseInfo(name="noise_0", size=(1, 4, 6), distribution="normal"),)

Arrays = dict[str, NDArray[Any]]


class FromAll(nn.Module):
    """Takes everything that a generator may take, one-hot or as ids."""

    def __init__(self, *, index: bool = False) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.index = index
        self.from_latent = nn.Linear(6, 4 * 6)
        self.of_label: nn.Module = nn.Embedding(4, 2) if index else nn.Linear(4, 2)
        self.of_mask: nn.Module = nn.Embedding(CLASSES, 3) if index else nn.Conv2d(CLASSES, 3, 1)
        self.of_image = nn.Conv2d(3, 3, 3, padding=1)
        self.join = nn.ConvTranspose2d(4, 3, 4, stride=4)
        self.last = nn.Conv2d(9, 3, 3, padding=1)

    def forward(
        self,
        latent: torch.Tensor,
        label: torch.Tensor,
        mask: torch.Tensor,
        image: torch.Tensor,
        noise: torch.Tensor,
    ) -> torch.Tensor:
        base = self.from_latent(latent).view(-1, 1, 4, 6)
        wide = self.of_label(label)[:, :, None, None].expand(-1, -1, 4, 6)
        low = torch.cat([base, wide, noise], 1)
        painted = self.of_mask(mask)
        if self.index:
            painted = painted.permute(0, 3, 1, 2)
        return torch.tanh(self.last(torch.cat([self.join(low), painted, self.of_image(image)], 1)))


def to_onnx(net: nn.Module, feeds: Arrays) -> ModelProto:
    batch = torch.export.Dim("batch")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*shares the same shape constraints")  # one batch for all
        program = torch.onnx.export(
            net.eval(),
            tuple(torch.from_numpy(value) for value in feeds.values()),
            dynamo=True,
            verbose=False,
            input_names=list(feeds),
            output_names=["head_generated"],
            dynamic_shapes=tuple({0: batch} for _ in feeds),
        )
    return program.model_proto


def given(batch: int, mask_size: tuple[int, int] = SIZE, image_size: tuple[int, int] = SIZE) -> Arrays:
    """Inputs of the deployed graph."""
    rng = np.random.default_rng(batch)
    return {
        "latent": rng.normal(size=(batch, 6)).astype(np.float32),
        "label": rng.integers(0, 4, batch).astype(np.int32),
        "mask": rng.integers(0, CLASSES, (batch, *mask_size)).astype(np.uint8),
        "image": rng.integers(0, 256, (batch, *image_size, 3)).astype(np.uint8),
        "noise_0": rng.normal(size=(batch, 1, 4, 6)).astype(np.float32),
    }


def nearest(mask: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    rows, columns = (
        (2 * np.arange(side) + 1) * old // (2 * side) for side, old in zip(size, mask.shape[1:], strict=True)
    )
    return mask[:, rows][:, :, columns]


def network_feeds(feeds: Arrays, *, index: bool = False, swap: bool = False) -> Arrays:
    """What the bare network gets, by NumPy and PyTorch."""
    mask = nearest(feeds["mask"], SIZE)
    pixels = torch.from_numpy(feeds["image"]).permute(0, 3, 1, 2).float() / 255
    pixels = pixels.flip(1) if swap else pixels
    pixels = functional.interpolate(pixels, SIZE, mode="bilinear", align_corners=False)
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (MEAN, STD))
    return {
        **feeds,
        "label": feeds["label"].astype(np.int64) if index else np.eye(4, dtype=np.float32)[feeds["label"]],
        "mask": mask.astype(np.int64)
        if index
        else (mask[:, None] == np.arange(CLASSES).reshape(1, -1, 1, 1)).astype(np.float32),
        "image": ((pixels - mean) / std).numpy(),
    }


@torch.inference_mode()
def values_of(net: nn.Module, feeds: Arrays) -> NDArray[np.float32]:
    return net.eval()(*(torch.from_numpy(value) for value in feeds.values())).numpy()


def bytes_of(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.clip(np.round((values + 1) * 127.5), 0, 255).astype(np.uint8).transpose(0, 2, 3, 1)


def spec(**changes: Any) -> GeneratorSpec:
    whole: dict[str, Any] = {
        "latent": LATENT,
        "label": LABEL,
        "label_form": "one_hot",
        "mask": MASK,
        "image": IMAGE,
        "noise": NOISE,
        "range": "tanh",
        "axes": generator_axes(4),
    }
    return GeneratorSpec(**{**whole, **changes})


def run(model: ModelProto, feeds: Arrays) -> NDArray[np.uint8]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (generated,) = session.run(["generated"], feeds)
    return generated


def run_openvino(model: ModelProto, feeds: Arrays) -> NDArray[np.uint8]:
    return openvino_runs.run_openvino(model, feeds)["generated"]


def assert_same(found: NDArray[np.uint8], values: NDArray[np.float32]) -> None:
    """Bytes are equal, but for values in the middle between two of them."""
    expected = bytes_of(values)
    assert found.dtype == np.uint8
    assert found.shape == expected.shape
    difference = np.abs(found.astype(int) - expected)
    assert difference.max() <= 1
    assert (difference == 0).mean() > 0.999


@pytest.fixture(scope="module", params=[False, True], ids=["one_hot", "index"])
def network(request: pytest.FixtureRequest) -> tuple[FromAll, ModelProto, bool]:
    net = FromAll(index=request.param)
    return net, to_onnx(net, network_feeds(given(2), index=request.param)), request.param


def form(index: bool) -> dict[str, Any]:
    kind = "index" if index else "one_hot"
    return {"label_form": kind, "mask": dataclasses.replace(MASK, form=kind)}


@pytest.mark.parametrize("sizes", [(SIZE, SIZE), ((36, 17), (45, 31)), ((7, 100), (16, 16))])
@pytest.mark.parametrize("batch", [1, 3])
def test_everything_at_once(
    network: tuple[FromAll, ModelProto, bool], batch: int, sizes: tuple[tuple[int, int], tuple[int, int]]
) -> None:
    net, model, index = network
    fused, inputs, outputs, axes = fuse_generator(model, spec(**form(index)))
    feeds = given(batch, *sizes)
    expected = values_of(net, network_feeds(feeds, index=index))
    assert_same(run(fused, feeds), expected)
    assert_same(run_openvino(fused, feeds), expected)
    assert [(tensor.name, tensor.dtype, tensor.shape) for tensor in inputs] == [
        ("latent", "float32", ("batch", 6)),
        ("label", "int32", ("batch",)),
        ("mask", "uint8", ("batch", "mask_height", "mask_width")),
        ("image", "uint8", ("batch", "height", "width", 3)),
        ("noise_0", "float32", ("batch", 1, 4, 6)),
    ]
    assert [(tensor.name, tensor.dtype, tensor.shape) for tensor in outputs] == [
        ("generated", "uint8", ("batch", *SIZE, 3))
    ]
    assert [value.name for value in fused.graph.input] == [tensor.name for tensor in inputs]
    assert axes == generator_axes(4)
