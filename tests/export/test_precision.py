"""FP16 and BF16 typing of networks, measured against the FP32 network in PyTorch."""

from __future__ import annotations

import copy

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper
from torch import nn
from torch.nn import functional

from pixelrt.errors import ExportError
from pixelrt_export.graph import value_types
from pixelrt_export.precision import ACTIVATION_LIMIT, to_precision

SIZE = (32, 48)


class Net(nn.Module):
    """One level of a U-Net; `boost` scales the inner features up and back down and keeps the result."""

    def __init__(self, boost: float = 1.0, *, norm: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.outer = nn.Conv2d(3, 8, 3, padding=1)
        self.inner = nn.Conv2d(8, 16, 3, padding=1)
        self.middle = nn.Conv2d(16, 16, 3, padding=1)
        self.norm: nn.Module = nn.InstanceNorm2d(16) if norm else nn.Identity()
        self.back = nn.Conv2d(24, 8, 3, padding=1)
        self.head = nn.Conv2d(8, 5, 1)
        with torch.no_grad():
            for layer, scale in ((self.inner, boost), (self.middle, 1 / boost)):
                layer.weight *= scale
            self.inner.bias *= boost

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        skip = torch.relu(self.outer(image))
        deep = torch.relu(self.inner(functional.max_pool2d(skip, 2)))
        deep = self.norm(torch.relu(self.middle(deep)))
        wide = functional.interpolate(deep, scale_factor=2, mode="bilinear")
        return self.head(torch.relu(self.back(torch.cat([wide, skip], 1))))


def to_onnx(net: nn.Module) -> ModelProto:
    program = torch.onnx.export(
        net.eval(),
        (torch.zeros(2, 3, *SIZE),),
        dynamo=True,
        verbose=False,
        input_names=["image"],
        output_names=["head_scene"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
    )
    return program.model_proto


def images(count: int = 3, seed: int = 1) -> list[NDArray[np.float32]]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(1, 3, *SIZE)).astype(np.float32) for _ in range(count)]


def feeds(count: int = 3) -> list[dict[str, NDArray[np.float32]]]:
    return [{"image": image} for image in images(count)]


def run(model: ModelProto, image: NDArray[np.float32]) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"image": image})[0]


def reference(net: nn.Module, image: NDArray[np.float32]) -> NDArray[np.float32]:
    with torch.inference_mode():
        return net.eval()(torch.from_numpy(image)).numpy()


def plain_half(net: nn.Module, image: NDArray[np.float32]) -> NDArray[np.float32]:
    """What a conversion without ranges computes."""
    with torch.inference_mode():
        return copy.deepcopy(net).eval().half()(torch.from_numpy(image).half()).float().numpy()


def casts(model: ModelProto) -> list[onnx.NodeProto]:
    return [node for node in model.graph.node if node.op_type == "Cast"]


@pytest.fixture(scope="module")
def plain() -> ModelProto:
    return to_onnx(Net())


@pytest.mark.parametrize("batch", [1, 3])
def test_fp16_is_close_to_pytorch_for_any_batch(plain: ModelProto, batch: int) -> None:
    typed, report = to_precision(plain, feeds(), "fp16")
    image = np.concatenate(images(batch, seed=9))
    expected = reference(Net(), image)
    got = run(typed, image)
    assert got.dtype == np.float32
    assert np.abs(got - expected).max() < 2e-3 * np.abs(expected).max() + 1e-3
    assert (got.argmax(1) == expected.argmax(1)).mean() > 0.995
    assert report.counts == {"fp16": len(report.layers)}


def test_fp16_network_has_one_cast_in_and_one_cast_out(plain: ModelProto) -> None:
    typed, report = to_precision(plain, feeds(), "fp16")
    assert [node.output[0] for node in casts(typed)] == ["image/fp16", "head_scene"]
    assert report.num_casts == 2
    types = value_types(typed)
    assert {types[name].elem_type for name in ("image", "head_scene")} == {TensorProto.FLOAT}
    weights = [types[node.input[1]].elem_type for node in typed.graph.node if node.op_type == "Conv"]
    assert weights == [TensorProto.FLOAT16] * 5
    onnx.checker.check_model(typed, full_check=True)


def test_fp32_changes_no_type_and_still_measures(plain: ModelProto) -> None:
    typed, report = to_precision(plain, feeds(), "fp32")
    assert casts(typed) == []
    assert report.counts == {"fp32": len(report.layers)}
    np.testing.assert_allclose(run(typed, images()[0]), reference(Net(), images()[0]), atol=1e-5)
    assert all(layer.max_abs > 0 for layer in report.layers)
    assert report.to_manifest().islands == ()


def test_measured_ranges_are_those_of_pytorch(plain: ModelProto) -> None:
    _, report = to_precision(plain, feeds(), "fp16")
    net = Net()
    seen: list[float] = []
    net.head.register_forward_hook(
        lambda layer, inputs, output: seen.append(
            max(float(tensor.abs().max()) for tensor in (inputs[0], output, layer.weight, layer.bias))
        )
    )
    for image in images():
        reference(net, image)
    assert report.layers[-1].max_abs == pytest.approx(max(seen), rel=1e-4)


def test_activations_beyond_65504_come_out_right() -> None:
    net = Net(boost=3e5)
    expected = reference(net, images()[0])
    broken = plain_half(net, images()[0])
    typed, report = to_precision(to_onnx(net), feeds(), "fp16")
    got = run(typed, images()[0])
    assert np.isfinite(got).all()
    assert np.abs(got - expected).max() < 5e-3 * np.abs(expected).max()
    assert (got.argmax(1) == expected.argmax(1)).mean() > 0.99
    # the network is one that a plain .half() breaks
    assert not (np.abs(broken - expected).max() < 0.1 * np.abs(expected).max())
    islands = report.to_manifest().islands
    assert max(island.max_abs for island in islands) > 65504
    assert any("above the limit of 16376" in island.reason for island in islands)
    assert 3 <= report.counts["fp32"] < report.counts["fp16"]


def test_limit_leaves_headroom_below_65504() -> None:
    assert ACTIVATION_LIMIT == 65504 / 4
    net = Net(boost=3e4)
    _, report = to_precision(to_onnx(net), feeds(), "fp16")
    found = [layer for layer in report.layers if ACTIVATION_LIMIT < layer.max_abs < 65504]
    assert found
    assert {layer.type for layer in found} == {"fp32"}


def test_statistics_stay_fp32_with_minimal_casts() -> None:
    net = Net(norm=True)
    typed, report = to_precision(to_onnx(net), feeds(), "fp16")
    islands = [layer for layer in report.layers if layer.type == "fp32"]
    assert "InstanceNormalization" in {layer.op for layer in islands}
    assert any("statistics need FP32" in layer.why for layer in islands)
    assert report.num_casts == 4, [node.name for node in casts(typed)]
    expected = reference(net, images()[0])
    assert np.abs(run(typed, images()[0]) - expected).max() < 1e-2


def model_of(nodes: list[onnx.NodeProto], constants: dict[str, NDArray[np.float32]]) -> ModelProto:
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, *SIZE])],
        [helper.make_tensor_value_info("head_scene", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (1e5, "'factor' reaches 1e+05, above 65504"),
        (3e-8, "'factor' loses"),
    ],
)
def test_constants_that_fp16_cannot_hold(value: float, reason: str) -> None:
    nodes = [
        helper.make_node("Sigmoid", ["image"], ["a"], name="first"),
        helper.make_node("Mul", ["a", "factor"], ["b"], name="scale"),
        helper.make_node("Div", ["b", "factor"], ["c"], name="unscale"),
        helper.make_node("Sigmoid", ["c"], ["head_scene"], name="last"),
    ]
    model = model_of(nodes, {"factor": np.array(value, np.float32)})
    typed, report = to_precision(model, feeds(), "fp16")
    assert [layer.type for layer in report.layers] == ["fp16", "fp32", "fp32", "fp16"]
    assert reason in report.layers[1].why
    np.testing.assert_allclose(run(typed, images()[0]), run(model, images()[0]), atol=1e-3)


def test_sums_that_may_overflow_stay_fp32() -> None:
    weight = np.array([40000, -40000, 5000], np.float32).reshape(1, 3, 1, 1)
    nodes = [
        helper.make_node("Sigmoid", ["image"], ["a"], name="first"),
        helper.make_node("Conv", ["a", "weight"], ["b"], name="cancelling"),
        helper.make_node("Softsign", ["b"], ["head_scene"], name="last"),
    ]
    _, report = to_precision(
        model_of(nodes, {"weight": weight}), [{"image": np.full((1, 3, *SIZE), 5, np.float32)}], "fp16"
    )
    assert report.layers[1].type == "fp32"
    assert report.layers[1].why == "adds up products of 84431 in total, above 65504"


def test_cheap_layers_between_islands_cause_no_casts() -> None:
    nodes = [
        helper.make_node("Softmax", ["image"], ["a"], name="one", axis=1),
        helper.make_node("Neg", ["a"], ["b"], name="between"),
        helper.make_node("Softmax", ["b"], ["head_scene"], name="two", axis=1),
    ]
    typed, report = to_precision(model_of(nodes, {}), feeds(), "fp16")
    assert casts(typed) == []
    assert "between FP32 layers" in report.layers[1].why
    assert report.counts == {"fp32": 3}


def test_large_reductions_are_accumulated_in_fp32() -> None:
    nodes = [
        helper.make_node("GlobalAveragePool", ["image"], ["mean"], name="mean"),
        helper.make_node(
            "AveragePool", ["image"], ["near"], name="near", kernel_shape=[3, 3], pads=[1, 1, 1, 1]
        ),
        helper.make_node("Sub", ["near", "mean"], ["head_scene"], name="difference"),
    ]
    _, report = to_precision(model_of(nodes, {}), feeds(), "fp16")
    assert report.layers[0].why == "GlobalAveragePool over 1536 values: accumulated in FP32"
    assert report.layers[1].type == "fp16"


def test_bf16_is_typed_throughout(plain: ModelProto) -> None:
    """ONNX Runtime's CPU has no BF16 convolution: the structure is checked, and the weights' rounding."""
    typed, report = to_precision(plain, feeds(), "bf16")
    onnx.checker.check_model(typed, full_check=True)
    assert report.counts == {"bf16": len(report.layers)}
    assert len(casts(typed)) == 2
    assert typed.opset_import[0].version == 22
    (first,) = [tensor for tensor in typed.graph.initializer if tensor.name == "outer.weight/bf16"]
    expected = Net().outer.weight.detach().to(torch.bfloat16).float().numpy()
    np.testing.assert_array_equal(numpy_helper.to_array(first).astype(np.float32), expected)


def test_the_argument_is_not_changed(plain: ModelProto) -> None:
    before = plain.SerializeToString(deterministic=True)
    to_precision(plain, feeds(1), "fp16")
    assert plain.SerializeToString(deterministic=True) == before


def test_no_calibration_image(plain: ModelProto) -> None:
    with pytest.raises(ExportError, match="no calibration sample was given"):
        to_precision(plain, [], "fp16")


@pytest.mark.parametrize(
    "image",
    [np.zeros((1, 3, 8, 8), np.float32), np.zeros((1, 3, *SIZE), np.uint8), np.zeros(SIZE, np.float32)],
)
def test_calibration_image_of_another_kind(plain: ModelProto, image: NDArray[np.float32]) -> None:
    with pytest.raises(ExportError, match=r"sample is .*the network's input 'image' is float32"):
        to_precision(plain, [{"image": image}], "fp16")


def test_nan_in_fp32_is_the_networks_fault() -> None:
    nodes = [helper.make_node("Log", ["image"], ["head_scene"], name="log")]
    with pytest.raises(ExportError, match="NaN in FP32"):
        to_precision(model_of(nodes, {}), feeds(1), "fp16")


def test_control_flow_is_refused() -> None:
    branch = helper.make_graph(
        [helper.make_node("Neg", ["image"], ["out"])],
        "branch",
        [],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
    )
    nodes = [
        helper.make_node("If", ["flag"], ["head_scene"], name="if", then_branch=branch, else_branch=branch)
    ]
    with pytest.raises(ExportError, match=r"'if' \(If\) holds a graph of its own"):
        to_precision(model_of(nodes, {"flag": np.array(True)}), feeds(1), "fp16")
