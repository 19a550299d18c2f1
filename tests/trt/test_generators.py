"""Generators of every kind of input, from PyTorch to an FP16 engine."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import tensorrt_rtx
import torch
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper
from torch import nn

from pixelrt.manifest import (
    ClassInfo,
    LabelInfo,
    LatentInfo,
    MaskInfo,
    NoiseInfo,
    Preprocess,
    Tensor,
)
from pixelrt.trt import BuildOptions, ShapeRange, build_engine
from pixelrt_export.fuse_generator import GeneratorSpec, fuse_generator, generator_axes
from pixelrt_export.instance_norm import EPSILON_FLOOR
from pixelrt_export.models import (
    ConditionalGenerator,
    Pix2PixGenerator,
    SPADEGenerator,
)
from pixelrt_export.network import HeadOutput, NetworkInput, NetworkSpec, from_module
from pixelrt_export.precision import to_precision

BATCH = 4
SIZE = (32, 48)
CLASSES = 5
SM86 = BuildOptions(flavour="tensorrt_rtx", targets=("sm86",))
LATENT = LatentInfo(size=(8,), distribution="normal")
LABEL = LabelInfo(names=("a", "b", "c"))
MASK = MaskInfo(
    size=SIZE, classes=tuple(ClassInfo(name=str(index), color=(index, 0, 0)) for index in range(CLASSES))
)
IMAGE = Preprocess(size=SIZE, channels=3, mean=(0.5,) * 3, std=(0.5,) * 3, color="rgb")
LABELS = NetworkInput(name="label", size=(), dtype="int64", range=(0, 3))
MASKS = NetworkInput(name="mask", size=(CLASSES, *SIZE), one_hot=True)
IMAGES = NetworkInput(name="image", size=(3, *SIZE))
LATENTS = NetworkInput(name="latent", size=LATENT.size)
STEERING = NetworkInput(name="latent", size=LATENT.size, parameter="latent")
Engine = tuple[bytes, GeneratorSpec]


def deployed(module: nn.Module, inputs: tuple[NetworkInput, ...], **parts: Any) -> Engine:
    """The FP16 graph of a network, and what went into it."""
    torch.manual_seed(0)
    training = ["dropout"] if isinstance(module, Pix2PixGenerator) else []
    network = from_module(module, as_in_training=training)
    head = HeadOutput("generated")
    model = network.to_onnx(NetworkSpec(inputs=inputs, heads=(head,), max_batch=BATCH, task="generation"))
    return fused_in_fp16(model, inputs, noise=tuple(network.noise), **parts)


def fused_in_fp16(model: ModelProto, inputs: tuple[NetworkInput, ...], **parts: Any) -> Engine:
    """The same from its FP32 ONNX."""
    spec = GeneratorSpec(range="tanh", axes=generator_axes(BATCH), frame_color="bgr", **parts)
    typed, report = to_precision(model, [feeds(inputs, spec.noise)], "fp16")
    assert report.counts["fp16"] > report.counts.get("fp32", 0) // 2
    fused, *_ = fuse_generator(typed, spec)
    content: bytes = fused.SerializeToString()
    return content, spec


def feeds(inputs: tuple[NetworkInput, ...], noise: tuple[NoiseInfo, ...]) -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(0)
    made: dict[str, NDArray[Any]] = {
        each.name: rng.uniform(*each.range, (1, *each.size)).astype(each.dtype) for each in inputs
    }
    for each in noise:
        made[each.name] = rng.uniform(size=(1, *each.size)).astype(np.float32)
    return made


def profile(spec: GeneratorSpec) -> dict[str, ShapeRange]:
    return {
        tensor.name: ShapeRange(
            **{kind: _shape(tensor, spec, kind) for kind in ("min", "opt", "max")}  # type: ignore[arg-type]
        )
        for tensor in spec.inputs()
    }


def _shape(tensor: Tensor, spec: GeneratorSpec, kind: str) -> tuple[int, ...]:
    return tuple(getattr(spec.axes[dim], kind) if isinstance(dim, str) else dim for dim in tensor.shape)


def cgan() -> Engine:
    return deployed(
        ConditionalGenerator((32, 48), 3, 8, 3, 4, embedding=2), (LATENTS, LABELS), latent=LATENT, label=LABEL
    )


def spade() -> Engine:
    module = SPADEGenerator(CLASSES, 3, (4, 6, 8), hidden=4, latent=8, norm="instance")
    return deployed(module, (STEERING, MASKS), latent=LATENT, mask=MASK)


def pix2pix() -> Engine:
    module = Pix2PixGenerator(3, 3, (4, 6, 8), norm="instance")
    made, spec = deployed(module, (IMAGES,), image=IMAGE)
    assert [each.name for each in spec.noise] == ["noise_0", "noise_1"]
    return made, spec


def mask_ids() -> Engine:
    """Ids that pick rows of a table, with a normalisation of a tiny epsilon behind them."""
    nodes = [
        helper.make_node("Gather", ["table", "mask"], ["rows"], name="embed"),
        helper.make_node("Transpose", ["rows"], ["plane"], name="transpose", perm=[0, 3, 1, 2]),
        helper.make_node("InstanceNormalization", ["plane", "one", "zero"], ["n"], name="norm", epsilon=1e-8),
        helper.make_node("Conv", ["n", "weight"], ["head_generated"], name="paint"),
    ]
    rng = np.random.default_rng(0)
    constants = {
        "table": rng.normal(size=(CLASSES, 4)),
        "one": np.ones(4),
        "zero": np.zeros(4),
        "weight": rng.normal(size=(3, 4, 1, 1)),
    }
    graph = helper.make_graph(
        nodes,
        "ids",
        [helper.make_tensor_value_info("mask", TensorProto.INT64, ["batch", *SIZE])],
        [helper.make_tensor_value_info("head_generated", TensorProto.FLOAT, ["batch", 3, *SIZE])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    ids = NetworkInput(name="mask", size=SIZE, dtype="int64", range=(0, CLASSES))
    return fused_in_fp16(model, (ids,), mask=dataclasses.replace(MASK, form="index"))


@pytest.fixture(scope="module", params=[cgan, spade, pix2pix, mask_ids], ids=lambda make: make.__name__)
def graph(request: pytest.FixtureRequest) -> Engine:
    return request.param()


def test_an_fp16_engine(graph: Engine) -> None:
    content, spec = graph
    engine = build_engine(content, profile(spec), SM86)
    assert [(tensor.name, tensor.dtype) for tensor in engine.inputs] == [
        (tensor.name, tensor.dtype) for tensor in spec.inputs()
    ]
    assert [(tensor.name, tensor.dtype) for tensor in engine.outputs] == [("generated", "uint8")]
    assert len(engine.content) > 10_000


def test_what_the_parser_makes_of_normalisations(graph: Engine) -> None:
    """No epsilon in TensorRT's own layers that it could raise, and statistics of float32."""
    content, _ = graph
    logger = tensorrt_rtx.Logger(tensorrt_rtx.Logger.ERROR)
    builder = tensorrt_rtx.Builder(logger)
    flag = tensorrt_rtx.NetworkDefinitionCreationFlag.STRONGLY_TYPED
    network = builder.create_network(1 << int(flag))
    parser = tensorrt_rtx.OnnxParser(network, logger)
    assert parser.parse(content)
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    norms = [layer for layer in layers if layer.type == tensorrt_rtx.LayerType.NORMALIZATION]
    assert len(norms) == content.count(b"InstanceNormalization")
    for layer in norms:
        assert layer.get_input(0).dtype == tensorrt_rtx.float32
        layer.__class__ = tensorrt_rtx.INormalizationLayer
        assert layer.epsilon >= EPSILON_FLOOR * (1 - 1e-6)
