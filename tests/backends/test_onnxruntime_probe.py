"""Whether ONNX Runtime's CUDA provider can run, found out without running a bundle."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from pixelrt.backends.onnxruntime_cuda import _ONE_NODE, provider_problem


def test_the_network_of_one_node_is_what_it_says() -> None:
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "one", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    assert model.SerializeToString() == _ONE_NODE
    session = onnxruntime.InferenceSession(_ONE_NODE, providers=["CPUExecutionProvider"])
    assert session.run(None, {"x": np.ones(1, np.float32)})[0].tolist() == [1.0]


@pytest.mark.filterwarnings("ignore:Specified provider:UserWarning")
def test_a_provider_that_is_not_there_is_told() -> None:
    assert "could not start its CUDAExecutionProvider" in provider_problem(onnxruntime, 0)
