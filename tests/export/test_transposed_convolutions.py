"""Transposed convolutions: their patterns come through, and batch norm folds into them rightly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime
import openvino_runs
import pytest
import torch
from numpy.typing import NDArray
from onnx import ModelProto
from torch import nn

from pixelrt_export.network import HeadOutput, NetworkInput, NetworkSpec, from_module
from pixelrt_export.precision import to_precision

LATENT = (6, 5, 7)


@dataclass(frozen=True)
class Doubling:
    """Arguments of a transposed convolution."""

    kernel: int
    stride: int
    padding: int
    output_padding: int = 0
    groups: int = 1
    dilation: int = 1


KINDS = {
    "kernel 3, stride 2, checkered": Doubling(3, 2, 1, output_padding=1),
    "kernel 5, stride 3, cropped": Doubling(5, 3, 2, output_padding=2),
    "kernel 4, stride 2": Doubling(4, 2, 1),
    "grouped": Doubling(3, 2, 0, groups=2),
    "dilated, holes between": Doubling(2, 2, 0, dilation=3),
}


class Columns(nn.Module):
    """All kinds side by side, each before a batch norm with statistics of its own; cut to one size."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.kinds = nn.ModuleList(
            nn.Sequential(
                nn.ConvTranspose2d(
                    6,
                    4,
                    kind.kernel,
                    kind.stride,
                    kind.padding,
                    kind.output_padding,
                    groups=kind.groups,
                    bias=index % 2 == 0,
                    dilation=kind.dilation,
                ),
                nn.BatchNorm2d(4),
                nn.LeakyReLU(0.2),
            )
            for index, kind in enumerate(KINDS.values())
        )
        self.join = nn.Conv2d(4 * len(KINDS), 3, 1)
        for norm in (layer[1] for layer in self.kinds):
            assert isinstance(norm, nn.BatchNorm2d)
            norm.running_mean = torch.randn(4)
            norm.running_var = torch.rand(4) + 0.2
            nn.init.uniform_(norm.weight, 0.5, 2.0)
            nn.init.normal_(norm.bias)

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.join(torch.cat([layer(latent)[..., :9, :13] for layer in self.kinds], 1)))


@pytest.fixture(scope="module")
def exported() -> tuple[Columns, ModelProto]:
    module = Columns().eval()
    inputs = (NetworkInput(name="latent", size=LATENT, range=(-1, 1)),)
    spec = NetworkSpec(inputs=inputs, heads=(HeadOutput("generated"),), max_batch=4)
    return module, from_module(module).to_onnx(spec)


def latents(batch: int = 2) -> NDArray[np.float32]:
    return np.random.default_rng(1).normal(size=(batch, *LATENT)).astype(np.float32)


def run(model: ModelProto, latent: NDArray[np.float32]) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"latent": latent})[0]


def run_openvino(model: ModelProto, latent: NDArray[np.float32]) -> NDArray[np.float32]:
    return next(iter(openvino_runs.run_openvino(model, {"latent": latent}).values()))


@torch.inference_mode()
def expected(module: nn.Module, latent: NDArray[np.float32]) -> NDArray[np.float32]:
    return module(torch.from_numpy(latent)).numpy()


def test_batch_norm_is_folded(exported: tuple[Columns, ModelProto]) -> None:
    _, plain = exported
    operators = [node.op_type for node in plain.graph.node]
    assert "BatchNormalization" not in operators
    assert operators.count("ConvTranspose") == len(KINDS)


@pytest.mark.parametrize("runner", [run, run_openvino])
def test_in_fp32_it_is_the_original(exported: tuple[Columns, ModelProto], runner: Any) -> None:
    module, plain = exported
    np.testing.assert_allclose(runner(plain, latents()), expected(module, latents()), atol=1e-5)


def test_in_fp16_every_one_keeps_its_attributes(exported: tuple[Columns, ModelProto]) -> None:
    module, plain = exported
    typed, report = to_precision(plain, [{"latent": latents(1)}], "fp16")
    before, after = (
        [node for node in model.graph.node if node.op_type == "ConvTranspose"] for model in (plain, typed)
    )
    assert [list(node.attribute) for node in before] == [list(node.attribute) for node in after]
    assert report.counts == {"fp16": len(report.layers)}
    np.testing.assert_allclose(run(typed, latents()), expected(module, latents()), atol=3e-3)
    np.testing.assert_allclose(run_openvino(typed, latents()), expected(module, latents()), atol=3e-3)
