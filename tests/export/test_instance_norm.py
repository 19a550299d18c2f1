"""Normalisations whose epsilon a backend may raise: rewritten, with the same result."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import openvino_runs
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

from pixelrt_export.graph import attribute_of
from pixelrt_export.inputs import NetworkInput, NetworkSpec
from pixelrt_export.instance_norm import EPSILON_FLOOR, expand_group_norms, lift_epsilon
from pixelrt_export.onnx_source import OnnxNetwork
from pixelrt_export.outputs import HeadOutput
from pixelrt_export.precision import to_precision

SHAPE = (2, 8, 6, 10)
ATTRIBUTES: dict[str, dict[str, Any]] = {
    "InstanceNormalization": {},
    "GroupNormalization": {"num_groups": 2},
    "LayerNormalization": {"axis": -1},
}


def model_of(op: str, epsilon: float | None, *, outputs: int = 1, nodes: int = 1) -> ModelProto:
    rng = np.random.default_rng(3)
    size = SHAPE[3] if op == "LayerNormalization" else SHAPE[1]
    attributes = ATTRIBUTES[op] | ({} if epsilon is None else {"epsilon": epsilon})
    names = ["y", "mean"][:outputs]
    graph = helper.make_graph(
        [
            helper.make_node(
                op, ["x", "scale", "bias"], [f"{name}{i}" for name in names], f"n{i}", **attributes
            )
            for i in range(nodes)
        ],
        "norm",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", *SHAPE[1:]])],
        [
            helper.make_tensor_value_info(f"{name}{i}", TensorProto.FLOAT, None)
            for i in range(nodes)
            for name in names
        ],
        [
            numpy_helper.from_array(rng.normal(1, 0.3, size).astype(np.float32), "scale"),
            numpy_helper.from_array(rng.normal(size=size).astype(np.float32), "bias"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def run(model: ModelProto, x: NDArray[np.float32]) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


def run_openvino(model: ModelProto, x: NDArray[np.float32]) -> NDArray[np.float32]:
    return next(iter(openvino_runs.run_openvino(model, {"x": x}).values()))


def raised(model: ModelProto) -> ModelProto:
    """What a backend makes of a model that knows no epsilon below the floor."""
    changed = copy.deepcopy(model)
    for node in changed.graph.node:
        for attribute in node.attribute:
            if attribute.name == "epsilon":
                attribute.f = max(attribute.f, EPSILON_FLOOR)
    return changed


def values(deviation: float, mean: float = 0.0) -> NDArray[np.float32]:
    return np.random.default_rng(0).normal(mean, deviation, SHAPE).astype(np.float32)


def epsilons(model: ModelProto) -> list[float]:
    return [attribute_of(node, "epsilon") for node in model.graph.node if node.op_type in ATTRIBUTES]


@pytest.mark.parametrize("epsilon", [1e-5, 3e-6, 1e-8, 1e-12])
@pytest.mark.parametrize("op", ATTRIBUTES)
def test_the_result_is_the_same_whatever_the_backend_raises(op: str, epsilon: float) -> None:
    model = model_of(op, epsilon)
    lifted, changed = lift_epsilon(model)
    assert changed
    assert min(epsilons(lifted)) >= EPSILON_FLOOR
    for x in (values(1e-4), values(1e-3, 0.5), values(30.0, -100.0), np.full(SHAPE, 2, np.float32)):
        expected = run(model, x)
        np.testing.assert_array_equal(run(lifted, x), expected)
        np.testing.assert_array_equal(run(raised(lifted), x), expected)
        np.testing.assert_allclose(run_openvino(lifted, x), run_openvino(model, x), atol=1e-5)
    # the trap: where it is raised, a map of small variance comes out flat
    tiny = values(1e-4)
    assert np.abs(run(raised(model), tiny) - run(model, tiny)).max() > 0.05


def test_the_default_epsilon_is_1e_5() -> None:
    model = model_of("InstanceNormalization", None)
    lifted, _ = lift_epsilon(model)
    assert epsilons(lifted) == [pytest.approx(1.6e-4)]
    np.testing.assert_array_equal(run(lifted, values(1e-3)), run(model, values(1e-3)))


@pytest.mark.parametrize(
    ("op", "epsilon", "outputs"),
    [
        ("InstanceNormalization", 1e-4 * (1 + 1e-6), 1),
        ("GroupNormalization", 1e-3, 1),
        ("LayerNormalization", 0.0, 1),
        ("LayerNormalization", 1e-6, 2),
    ],
)
def test_what_stays(op: str, epsilon: float, outputs: int) -> None:
    model = model_of(op, epsilon, outputs=outputs)
    assert lift_epsilon(model) == (model, False)


def test_readers_of_one_tensor_share_the_multiplication_and_the_argument_stays() -> None:
    model = model_of("InstanceNormalization", 1e-5, nodes=2)
    before = model.SerializeToString()
    lifted, _ = lift_epsilon(model)
    assert [node.op_type for node in lifted.graph.node].count("Mul") == 1
    assert model.SerializeToString() == before


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_every_precision_is_lifted(precision: Any) -> None:
    model = model_of("InstanceNormalization", 1e-6)
    typed, report = to_precision(model, [{"x": values(1.0)}], precision)
    assert epsilons(typed) == [pytest.approx(2.56e-4)]
    (layer,) = report.layers
    assert layer.type == "fp32"
    assert report.num_casts == 0
    if precision != "fp32":
        assert layer.why == "instance norm: its statistics need FP32"
    np.testing.assert_array_equal(run(typed, values(1e-3)), run(model, values(1e-3)))


class TestGroupNorms:
    def model(self, opset: int) -> ModelProto:
        """Two of them, a convolution between: ONNX knows no shape behind the first."""
        rng = np.random.default_rng(3)
        size = SHAPE[1] if opset >= 21 else 4
        constants = {
            "scale": rng.normal(1, 0.3, size),
            "bias": rng.normal(size=size),
            "w": rng.normal(size=(8, 8, 1, 1)),
        }
        group = {"num_groups": 4, "epsilon": 1e-6}
        graph = helper.make_graph(
            [
                helper.make_node("GroupNormalization", ["x", "scale", "bias"], ["a"], "one", **group),
                helper.make_node("Conv", ["a", "w"], ["b"], "conv"),
                helper.make_node("GroupNormalization", ["b", "scale", "bias"], ["y"], "", **group),
            ],
            "groups",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", *SHAPE[1:]])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
            [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)

    @pytest.mark.parametrize("opset", [18, 21])
    def test_written_out_they_are_the_same_and_can_be_typed(self, opset: int) -> None:
        model = self.model(opset)
        expanded, changed = expand_group_norms(model)
        assert changed
        assert "GroupNormalization" not in {node.op_type for node in expanded.graph.node}
        for x in (values(1.0), values(1e-2, 0.1)):
            np.testing.assert_allclose(run(expanded, x), run(model, x), atol=5e-4)
        typed, report = to_precision(expanded, [{"x": values(1.0)}], "fp16")
        assert report.counts["fp16"] >= 1
        np.testing.assert_allclose(run(typed, values(1.0)), run(model, values(1.0)), atol=0.02)

    def test_without_any_nothing_changes(self) -> None:
        model = model_of("InstanceNormalization", 1e-5)
        assert expand_group_norms(model) == (model, False)

    def test_a_foreign_onnx_file_with_them_can_be_exported(self, tmp_path: Path) -> None:
        model = self.model(21)
        onnx.save(model, tmp_path / "net.onnx")
        network = OnnxNetwork.open(tmp_path / "net.onnx")
        inputs = (NetworkInput(name="latent", size=SHAPE[1:], parameter="x", range=(-1, 1)),)
        plain = network.to_onnx(NetworkSpec(inputs=inputs, heads=(HeadOutput("generated"),), max_batch=4))
        feeds = {"latent": values(1.0)}
        session = onnxruntime.InferenceSession(plain.SerializeToString(), providers=["CPUExecutionProvider"])
        (found,) = session.run(None, feeds)
        np.testing.assert_allclose(found, network.reference(feeds)["generated"], atol=1e-4)
