"""Layers that stay FP32 for another one's sake: variances, what cancels, thresholds of noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from pixelrt.manifest import PrecisionType
from pixelrt_export.precision import PrecisionReport, to_precision
from pixelrt_export.rounding import round_explicitly

SHAPE = (2, 8, 6, 10)
node = helper.make_node


def net(nodes: Sequence[NodeProto], constants: dict[str, Any], opset: int = 20) -> ModelProto:
    """From `x` and `noise` of the same shape, where a node reads it, to `y`."""
    read = {name for each in nodes for name in each.input}
    graph = helper.make_graph(
        nodes,
        "net",
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *SHAPE[1:]])
            for name in ("x", "noise")
            if name in read
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def typed(
    model: ModelProto, x: NDArray[np.float32], precision: PrecisionType = "fp16"
) -> tuple[ModelProto, PrecisionReport]:
    feeds = {"x": x, "noise": np.random.default_rng(1).uniform(size=SHAPE).astype(np.float32)}
    return to_precision(model, [{value.name: feeds[value.name] for value in model.graph.input}], precision)


def islands(report: PrecisionReport) -> dict[str, str]:
    return {layer.layer: layer.why for layer in report.layers if layer.type == "fp32"}


def run(model: ModelProto, **feeds: NDArray[np.float32]) -> NDArray[np.float32]:
    """As the graph is typed, with every rounding."""
    rounded, _ = round_explicitly(model)
    session = onnxruntime.InferenceSession(rounded.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, feeds)[0]


def values(deviation: float = 1.0, mean: float = 0.0) -> NDArray[np.float32]:
    return np.random.default_rng(0).normal(mean, deviation, SHAPE).astype(np.float32)


CONV = node("Conv", ["x", "w", "b"], ["c"], name="conv")
WEIGHTS = {"w": np.eye(8, dtype=np.float32).reshape(8, 8, 1, 1), "b": np.zeros(8, np.float32)}
SCALES = {"one": np.ones(8, np.float32), "zero": np.zeros(8, np.float32)}


class TestVariances:
    def pixel_norm(self) -> ModelProto:
        """X / sqrt(mean(x**2) + 1e-6) over the channels: eight values, a sum that FP16 could take."""
        nodes = [
            CONV,
            node("Pow", ["c", "two"], ["squares"], name="square"),
            node("ReduceMean", ["squares", "axis"], ["mean"], name="mean"),
            node("Add", ["mean", "epsilon"], ["safe"], name="safe"),
            node("Sqrt", ["safe"], ["root"], name="root"),
            node("Reciprocal", ["root"], ["factor"], name="reciprocal"),
            node("Mul", ["c", "factor"], ["y"], name="scale"),
        ]
        two, epsilon = np.float32(2), np.float32(1e-6)
        return net(nodes, {**WEIGHTS, "two": two, "axis": np.array([1]), "epsilon": epsilon})

    def test_all_between_squares_and_root(self) -> None:
        model = self.pixel_norm()
        made, report = typed(model, values())
        assert set(islands(report)) == {"square", "mean", "safe", "root"}
        assert "whose root 'root' takes, needs FP32" in islands(report)["mean"]
        for x in (values(2e-4), values(300.0)):  # squares that FP16 does not have
            np.testing.assert_allclose(run(made, x=x), run(model, x=x), atol=5e-3)

    @pytest.mark.parametrize("exponent", [0.5, -0.5])
    def test_a_root_written_as_a_power(self, exponent: float) -> None:
        nodes = [
            node("Mul", ["x", "x"], ["squares"], name="square"),
            node("GlobalAveragePool", ["squares"], ["mean"], name="mean"),
            node("Pow", ["mean", "exponent"], ["factor"], name="root"),
            node("Conv", ["factor", "w", "b"], ["y"], name="conv"),
        ]
        _, report = typed(net(nodes, {**WEIGHTS, "exponent": np.float32(exponent)}), values())
        assert set(islands(report)) == {"square", "mean", "root"}

    def test_a_root_of_something_else(self) -> None:
        nodes = [
            node("Conv", ["x", "w", "b"], ["c"], name="conv"),
            node("Abs", ["c"], ["a"], name="abs"),
            node("Sqrt", ["a"], ["r"], name="root"),
            node("Pow", ["r", "three"], ["y"], name="power"),
        ]
        _, report = typed(net(nodes, {**WEIGHTS, "three": np.float32(3)}), values())
        assert islands(report) == {}


class TestWhatCancels:
    @pytest.mark.parametrize(
        ("op", "attributes"),
        [
            ("InstanceNormalization", {"epsilon": 1e-5}),
            ("LayerNormalization", {"axis": -3}),
        ],
    )
    @pytest.mark.parametrize("opset", [21, 22])
    def test_a_mean_far_above_the_deviation(self, op: str, attributes: dict[str, Any], opset: int) -> None:
        size = SHAPE[1:] if op == "LayerNormalization" else SHAPE[1:2]
        nodes = [
            node("Sigmoid", ["x"], ["s"], name="far"),
            node("Conv", ["s", "w", "b"], ["c"], name="conv"),
            node("LeakyRelu", ["c"], ["l"], name="leaky"),
            node(op, ["l", "one", "zero"], ["y"], name="norm", **attributes),
        ]
        weights = {"w": WEIGHTS["w"] * np.float32(0.01), "b": np.full(8, 2, np.float32)}
        scales = {"one": np.ones(size, np.float32), "zero": np.zeros(size, np.float32)}
        model = net(nodes, {**weights, **scales}, opset)
        made, report = typed(model, values())
        assert set(islands(report)) == {"conv", "leaky", "norm"}
        assert "'norm' would enlarge its rounding" in islands(report)["conv"]
        np.testing.assert_allclose(run(made, x=values()), run(model, x=values()), atol=0.02)

    def test_an_ordinary_one(self) -> None:
        nodes = [CONV, node("InstanceNormalization", ["c", "one", "zero"], ["y"], name="norm")]
        _, report = typed(net(nodes, {**WEIGHTS, **SCALES}), values(1.0, 5.0))
        assert set(islands(report)) == {"norm"}

    def test_bf16_rounds_more_and_may_enlarge_less(self) -> None:
        nodes = [CONV, node("InstanceNormalization", ["c", "one", "zero"], ["y"], name="norm")]
        _, report = typed(net(nodes, {**WEIGHTS, **SCALES}), values(1.0, 8.0), "bf16")
        assert set(islands(report)) == {"conv", "norm"}

    def test_a_difference_of_large_values(self) -> None:
        nodes = [
            CONV,
            node("AveragePool", ["c"], ["near"], name="near", kernel_shape=[1, 3], pads=[0, 1, 0, 1]),
            node("Sub", ["c", "near"], ["d"], name="difference"),
            node("Softsign", ["d"], ["y"], name="end"),
        ]
        x = values(0.1, 100.0)
        _, report = typed(net(nodes, WEIGHTS), x)
        assert set(islands(report)) == {"conv", "near", "difference"}
        flat = [CONV, node("Sub", ["c", "hundred"], ["d"], name="difference"), *nodes[3:]]
        model = net(flat, {**WEIGHTS, "hundred": np.float32(100)})
        made, report = typed(model, x)
        assert set(islands(report)) == {"conv", "difference"}
        np.testing.assert_allclose(run(made, x=x), run(model, x=x), atol=1e-3)


class TestThresholds:
    def dropout(self, source: str = "noise") -> ModelProto:
        nodes = [
            CONV,
            node("Mul", [source, "two"], ["scaled"], name="scaled"),
            node("GreaterOrEqual", ["scaled", "one"], ["kept"], name="compare"),
            node("Cast", ["kept"], ["mask"], name="cast", to=TensorProto.FLOAT),
            node("Mul", ["c", "mask"], ["y"], name="drop"),
        ]
        return net(nodes, {**WEIGHTS, "two": np.float32(2), "one": np.float32(1)})

    @pytest.mark.parametrize("precision", ["fp16", "bf16"])
    def test_noise_is_compared_as_it_is(self, precision: PrecisionType) -> None:
        model = self.dropout()
        made, report = typed(model, values(), precision)
        assert set(islands(report)) == {"scaled", "compare"}
        assert "'compare' compares an input" in islands(report)["compare"]
        noise = np.full(SHAPE, np.nextafter(np.float32(0.5), np.float32(0)), np.float32)
        assert not run(made, x=values(), noise=noise).any()

    def test_what_a_network_has_computed_is_compared_as_it_was_computed(self) -> None:
        _, report = typed(self.dropout("c"), values())
        assert islands(report) == {}
