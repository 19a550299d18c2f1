"""The deployed graph against PyTorch, in ONNX Runtime and OpenVINO, and through TensorRT's parser."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnxruntime
import openvino_runs
import pytest
import torch
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper
from torch import nn
from torch.nn import functional

from pixelrt.errors import ExportError
from pixelrt.manifest import Axis
from pixelrt_export.fuse import FuseSpec, HeadSpec, averaging_matrix, fuse
from pixelrt_export.precision import to_precision

SIZE = (32, 48)
MEAN = (0.485, 0.456, 0.406, 0.5)
STD = (0.229, 0.224, 0.225, 0.25)
FRAMES = [(32, 48), (45, 80), (20, 31)]


class Net(nn.Module):
    """Two heads from shared features: one at half the resolution, one at the full one."""

    def __init__(self, channels: int = 3, first: int = 5, second: int = 1, *, odd: bool = False) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.body = nn.Conv2d(channels, 8, 3, padding=1)
        self.first = nn.Conv2d(8, first, 3, padding=1, stride=3 if odd else 2)
        self.second = nn.Conv2d(8, second, 1)
        with torch.no_grad():  # logits far enough apart for the comparison of masks
            self.first.weight *= 6
            self.second.weight *= 6

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = torch.relu(self.body(image))
        return self.first(features), self.second(features)


def to_onnx(net: nn.Module, channels: int = 3) -> ModelProto:
    program = torch.onnx.export(
        net.eval(),
        (torch.zeros(2, channels, *SIZE),),
        dynamo=True,
        verbose=False,
        input_names=["image"],
        output_names=["head_scene", "head_lane"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
    )
    return program.model_proto


@pytest.fixture(scope="module")
def network() -> ModelProto:
    return to_onnx(Net())


def spec(*heads: HeadSpec, channels: int = 3, frame: str = "rgb", network: str = "rgb") -> FuseSpec:
    colors = {"frame_color": frame, "network_color": network}
    return FuseSpec(heads=heads, mean=MEAN[:channels], std=STD[:channels], **colors)


ALL = ("mask", "confidence", "grid", "logits")
SCENE = HeadSpec(name="scene", emit=ALL, grid=(5, 7))
LANE = HeadSpec(name="lane", activation="sigmoid", emit=ALL, grid=(4, 6), threshold=0.3)


def frames(count: int, size: tuple[int, int], channels: int = 3) -> NDArray[np.uint8]:
    return np.random.default_rng(sum(size)).integers(0, 256, (count, *size, channels), dtype=np.uint8)


def run(model: ModelProto, frame: NDArray[np.uint8]) -> dict[str, NDArray[np.generic]]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"frame": frame}), strict=True))


@torch.inference_mode()
def golden_logits(net: nn.Module, frame: NDArray[np.uint8], *, swap: bool = False) -> list[torch.Tensor]:
    channels = frame.shape[-1]
    pixels = torch.from_numpy(frame).permute(0, 3, 1, 2).float() / 255
    if swap:
        pixels = pixels[:, [2, 1, 0, *range(3, channels)]]
    pixels = functional.interpolate(pixels, SIZE, mode="bilinear", align_corners=False)
    mean, std = (torch.tensor(values[:channels]).view(1, -1, 1, 1) for values in (MEAN, STD))
    heads = net.eval()((pixels - mean) / std)
    return [functional.interpolate(head, SIZE, mode="bilinear", align_corners=False) for head in heads]


def assert_scene(got: dict[str, NDArray[np.generic]], logits: torch.Tensor, prefix: str = "") -> None:
    probabilities = logits.softmax(1)
    confidence, mask = probabilities.max(1)
    np.testing.assert_allclose(got[f"{prefix}logits"], logits, atol=2e-4)
    assert got[f"{prefix}mask"].dtype == got[f"{prefix}confidence"].dtype == np.uint8
    assert (got[f"{prefix}mask"] == mask.numpy()).mean() > 0.999
    error = got[f"{prefix}confidence"].astype(int) - (confidence * 255).round().numpy()
    assert np.abs(error).max() <= 1
    assert (error == 0).mean() > 0.99
    grid = functional.adaptive_avg_pool2d(probabilities, got[f"{prefix}grid"].shape[2:])
    np.testing.assert_allclose(got[f"{prefix}grid"], grid, atol=1e-4)


def assert_lane(got: dict[str, NDArray[np.generic]], logits: torch.Tensor, threshold: float) -> None:
    probability = logits.sigmoid()
    mask = probability[:, 0] >= threshold
    confidence = torch.where(mask, probability[:, 0], 1 - probability[:, 0])
    assert (got["lane.mask"] == mask.numpy()).mean() > 0.999
    assert 0 < got["lane.mask"].mean() < 1
    near = (probability[:, 0] - threshold).abs().numpy() < 1e-3
    error = np.abs(got["lane.confidence"].astype(int) - (confidence * 255).round().numpy())
    assert error[~near].max() <= 1
    grid = functional.adaptive_avg_pool2d(probability, got["lane.grid"].shape[2:])
    np.testing.assert_allclose(got["lane.grid"], grid, atol=1e-4)


@pytest.mark.parametrize("size", FRAMES)
@pytest.mark.parametrize("batch", [1, 3])
def test_all_outputs_of_two_heads(network: ModelProto, size: tuple[int, int], batch: int) -> None:
    fused, inputs, outputs, axes = fuse(network, spec(SCENE, LANE))
    frame = frames(batch, size)
    got = run(fused, frame)
    scene, lane = golden_logits(Net(), frame)
    assert_scene(got, scene, "scene.")
    assert_lane(got, lane, LANE.threshold)
    assert [(tensor.name, tensor.dtype, tensor.shape) for tensor in inputs] == [
        ("frame", "uint8", ("batch", "height", "width", 3))
    ]
    assert set(axes) == {"batch", "height", "width"}
    fixed = {"batch": batch}
    assert [tensor.name for tensor in outputs] == list(got)
    for tensor in outputs:
        assert got[tensor.name].shape == tuple(fixed.get(dim, dim) for dim in tensor.shape)
        assert got[tensor.name].dtype == tensor.dtype


@pytest.mark.parametrize("precision", ["f32", "bf16"])
def test_openvino_at_the_networks_size(network: ModelProto, precision: str) -> None:
    fused, _, _, _ = fuse(network, spec(SCENE, LANE))
    frame = frames(1, SIZE)
    got = openvino_runs.run_openvino(fused, {"frame": frame}, precision)
    scene, lane = golden_logits(Net(), frame)
    if precision == "f32":
        assert_scene(got, scene, "scene.")
        assert_lane(got, lane, LANE.threshold)
    else:
        assert (got["scene.mask"] == scene.argmax(1).numpy()).mean() > 0.97


@pytest.mark.parametrize("kind", ALL)
def test_each_output_alone(network: ModelProto, kind: str) -> None:
    full, _, _, _ = fuse(network, spec(SCENE))
    alone, _, outputs, _ = fuse(network, spec(dataclasses.replace(SCENE, emit=(kind,))))
    assert [tensor.name for tensor in outputs] == [kind]
    frame = frames(1, (45, 80))
    expected = run(full, frame)[kind].astype(np.float32)
    tolerance = 1 if kind == "confidence" else 1e-5
    np.testing.assert_allclose(run(alone, frame)[kind].astype(np.float32), expected, atol=tolerance)
    assert len(alone.graph.node) < len(full.graph.node)


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("frame_color", ["rgb", "bgr"])
def test_colour_order_is_folded_into_the_first_convolution(channels: int, frame_color: str) -> None:
    net = Net(channels)
    swapped = spec(
        SCENE, channels=channels, frame=frame_color, network="bgr" if frame_color == "rgb" else "rgb"
    )
    model = to_onnx(net, channels)
    fused, _, _, _ = fuse(model, swapped)
    frame = frames(1, (45, 80), channels)
    assert_scene(run(fused, frame), golden_logits(net, frame, swap=True)[0])
    assert "frame/swap_color" not in {node.name for node in fused.graph.node}
    half, _ = to_precision(model, [{"image": np.ones((1, channels, *SIZE), np.float32)}], "fp16")
    fused, _, _, _ = fuse(half, swapped)
    assert "frame/swap_color" not in {node.name for node in fused.graph.node}
    mask = golden_logits(net, frame, swap=True)[0].argmax(1).numpy()
    assert (run(fused, frame)["mask"] == mask).mean() > 0.99


def test_colour_order_where_no_convolution_reads_the_image() -> None:
    model = plain_model([helper.make_node("Neg", ["image"], ["head_scene"], name="neg")])
    fused, _, _, _ = fuse(model, spec(HeadSpec(name="scene", emit=("logits",)), frame="bgr"))
    frame = frames(1, SIZE)
    expected = -(frame[..., ::-1] / 255 - MEAN[:3]) / STD[:3]
    np.testing.assert_allclose(run(fused, frame)["logits"], expected.transpose(0, 3, 1, 2), atol=1e-5)


def plain_model(nodes: list[object], channels: int = 3, size: tuple[int, int] = SIZE) -> ModelProto:
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", channels, *size])],
        [helper.make_tensor_value_info("head_scene", TensorProto.FLOAT, ["n", channels, *size])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_network_that_gives_probabilities_with_operator_set_17() -> None:
    model = plain_model([helper.make_node("Softmax", ["image"], ["head_scene"], axis=1)])
    head = HeadSpec(name="scene", activation="none", emit=ALL, grid=(3, 5))
    fused, _, _, _ = fuse(model, spec(head))
    frame = frames(2, SIZE)
    got = run(fused, frame)
    image = (frame / 255 - MEAN[:3]) / STD[:3]
    probabilities = torch.from_numpy(image).permute(0, 3, 1, 2).float().softmax(1)
    np.testing.assert_allclose(got["logits"], probabilities, atol=1e-5)
    np.testing.assert_array_equal(got["mask"], probabilities.argmax(1))
    assert np.abs(got["confidence"].astype(int) - (probabilities.amax(1) * 255).round().numpy()).max() <= 1
    np.testing.assert_allclose(got["grid"], functional.adaptive_avg_pool2d(probabilities, (3, 5)), atol=1e-5)


def test_tensors_of_the_network_may_be_called_like_outputs() -> None:
    nodes = [
        helper.make_node("Neg", ["image"], ["mask"], name="neg"),
        helper.make_node("Neg", ["mask"], ["head_scene"], name="back"),
    ]
    fused, _, _, _ = fuse(plain_model(nodes), spec(HeadSpec(name="scene")))
    got = run(fused, frames(1, SIZE))["mask"]
    assert got.dtype == np.uint8
    assert got.shape == (1, *SIZE)


def test_logits_far_apart_give_full_confidence_not_nan() -> None:
    import onnx.numpy_helper

    nodes = [helper.make_node("Mul", ["image", "big"], ["head_scene"])]
    model = plain_model(nodes)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(1e4, np.float32), "big"))
    fused, _, _, _ = fuse(model, spec(HeadSpec(name="scene", emit=("mask", "confidence"))))
    got = run(fused, frames(1, SIZE))
    assert np.median(got["confidence"]) == 255


def test_logits_whose_size_is_no_whole_part_of_the_input() -> None:
    net = Net(odd=True)
    fused, _, _, _ = fuse(to_onnx(net), spec(SCENE))
    frame = frames(2, (45, 80))
    assert_scene(run(fused, frame), golden_logits(net, frame)[0])


@pytest.mark.parametrize(("size", "cells"), [(32, 5), (480, 15), (7, 7), (10, 3), (9, 1)])
def test_averaging_matrix_is_adaptive_average_pooling(size: int, cells: int) -> None:
    signal = torch.rand(1, 1, size)
    expected = functional.adaptive_avg_pool1d(signal, cells)[0, 0]
    np.testing.assert_allclose(averaging_matrix(size, cells) @ signal[0, 0].numpy(), expected, atol=1e-6)


def test_bytes_meet_a_cast_first_and_leave_through_one(network: ModelProto) -> None:
    fused, _, outputs, _ = fuse(network, spec(SCENE, LANE))
    readers = {node.op_type for node in fused.graph.node if "frame" in node.input}
    assert readers == {"Cast", "Shape"}
    writers = {node.output[0]: node.op_type for node in fused.graph.node}
    assert {writers[tensor.name] for tensor in outputs if tensor.dtype == "uint8"} == {"Cast"}
    inner = [
        value for value in fused.graph.value_info if value.type.tensor_type.elem_type == TensorProto.UINT8
    ]
    assert inner == []
    names = [node.name for node in fused.graph.node]
    assert all(names)
    assert len(set(names)) == len(names)


def test_unused_heads_are_removed(network: ModelProto) -> None:
    fused, _, _, _ = fuse(network, spec(LANE))
    assert "head_scene" not in {name for node in fused.graph.node for name in node.output}
    assert "first.weight" not in {tensor.name for tensor in fused.graph.initializer}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "sky"}, "'head_sky', the network has \\['head_lane', 'head_scene'\\]"),
        ({"activation": "sigmoid"}, "has 5 channels; sigmoid takes 1"),
        ({"grid": None}, "grid of None; rows and columns from 1x1 to 32x48"),
        ({"grid": (33, 4)}, "grid of \\(33, 4\\)"),
        ({"threshold": 1.0}, "threshold 1.0; between 0 and 1"),
        ({"emit": ()}, "emits \\[\\]; one or more"),
        ({"name": "lane", "activation": "softmax"}, "has 1 channel; softmax needs 2"),
    ],
)
def test_heads_that_do_not_fit(network: ModelProto, change: dict[str, object], message: str) -> None:
    with pytest.raises(ExportError, match=message):
        fuse(network, spec(dataclasses.replace(SCENE, **change)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mean": (0.5,)}, "mean has 1 values and std 3, the network's input has 3 channels"),
        ({"std": (0.2, 0.0, 0.2)}, "std above 0"),
        ({"axes": {"batch": Axis(min=1, opt=1, max=1)}}, "ranges for batch, height and width"),
        ({"heads": ()}, "one or more"),
    ],
)
def test_specifications_that_do_not_fit(network: ModelProto, change: dict[str, object], message: str) -> None:
    with pytest.raises(ExportError, match=message):
        fuse(network, dataclasses.replace(spec(SCENE), **change))


def test_tensorrt_parses_the_fused_half_graph(network: ModelProto) -> None:
    import tensorrt_rtx as trt

    half, _ = to_precision(network, [{"image": np.ones((1, 3, *SIZE), np.float32)}], "fp16")
    fused, _, outputs, _ = fuse(half, spec(SCENE, LANE))
    builder = trt.Builder(trt.Logger(trt.Logger.ERROR))
    parsed = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(parsed, trt.Logger(trt.Logger.ERROR))
    accepted = parser.parse(fused.SerializeToString())
    assert accepted, [parser.get_error(index).desc() for index in range(parser.num_errors)]
    assert parsed.get_input(0).dtype == trt.uint8
    found = [parsed.get_output(index).name for index in range(parsed.num_outputs)]
    assert found == [tensor.name for tensor in outputs]
