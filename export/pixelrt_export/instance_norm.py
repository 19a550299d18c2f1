"""Keeps a normalisation's result where a backend raises its epsilon, and writes group norms out.

TensorRT's ONNX parser used to raise InstanceNormalization's epsilon to 1e-4 without a word (onnx-tensorrt up
to TensorRT 7.0), which changes every feature map whose variance is of that size; PyTorch's default is 1e-5.
TensorRT-RTX 1.7 hands small ones on (its parsed layers say so), and what a kernel does with them cannot be
seen without its GPU. So no epsilon below that floor is left in a graph.
"""

from __future__ import annotations

import math

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, helper, numpy_helper

from pixelrt_export.graph import Nodes, attribute_of, copy_of, opset_of, replace_nodes, value_types

EPSILON_FLOOR = 1e-4
"""No smaller epsilon is left in a graph."""
_DEFAULT_EPSILON = 1e-5
_NORMS = frozenset({"InstanceNormalization", "GroupNormalization", "LayerNormalization"})


def lift_epsilon(model: ModelProto) -> tuple[ModelProto, bool]:
    """Replace a normalisation of x with a small epsilon by that of s * x with s**2 * epsilon.

    It is the same: (s x - s mean) / sqrt(s**2 var + s**2 epsilon) = (x - mean) / sqrt(var + epsilon). As s is
    a power of two, not even the rounding of float32 differs. An epsilon of 0 has no such twin and stays; so
    does a layer normalisation whose mean or deviation is an output too.

    Args:
        model: Its normalisations read float32; others are left alone.
    """
    lifted = copy_of(model)
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes: list[NodeProto] = []
    made: set[str] = set()
    for node in lifted.graph.node:
        scale = _scale_of(node)
        if scale != 1:
            scaled = f"{node.input[0]}/times_{scale}"
            if scaled not in made:
                factor = f"factor_{scale}"
                constants[factor] = numpy_helper.from_array(np.array(scale, np.float32), factor)
                nodes.append(helper.make_node("Mul", [node.input[0], factor], [scaled], name=scaled))
                made.add(scaled)
            node.input[0] = scaled
            _set_epsilon(node, _epsilon_of(node) * scale**2)
        nodes.append(node)
    if not made:
        return model, False
    replace_nodes(lifted, nodes)
    del lifted.graph.initializer[:], lifted.graph.value_info[:]
    lifted.graph.initializer.extend(constants.values())
    return lifted, True


def _epsilon_of(node: NodeProto) -> float:
    return float(attribute_of(node, "epsilon", _DEFAULT_EPSILON))


def _scale_of(node: NodeProto) -> int:
    """The smallest power of two that lifts the epsilon to the floor; 1 where nothing is to be done."""
    if node.op_type not in _NORMS or any(node.output[1:]):
        return 1
    epsilon = _epsilon_of(node)
    if not 0 < epsilon < EPSILON_FLOOR:
        return 1
    return int(2 ** math.ceil(math.log2(EPSILON_FLOOR / epsilon) / 2))


def _set_epsilon(node: NodeProto, epsilon: float) -> None:
    kept = [attribute for attribute in node.attribute if attribute.name != "epsilon"]
    del node.attribute[:]
    node.attribute.extend([*kept, helper.make_attribute("epsilon", epsilon)])


def expand_group_norms(model: ModelProto) -> tuple[ModelProto, bool]:
    """Write GroupNormalization as an instance norm over groups, as torch.onnx writes it.

    ONNX infers no shape for that operator, so that nothing after it could be checked or typed. Its scale and
    bias are one per group up to operator set 20, one per channel from 21 on.
    """
    expanded, changed = copy_of(model), False
    opset = opset_of(model)
    while (index := _known_group_norm(expanded)) is not None:
        at, rank = index
        nodes = list(expanded.graph.node)
        build = _written_out(nodes[at], rank, opset)
        replace_nodes(expanded, [*nodes[:at], *build.nodes, *nodes[at + 1 :]])
        expanded.graph.initializer.extend(build.constants.values())
        changed = True
    return (expanded, True) if changed else (model, False)


def _known_group_norm(model: ModelProto) -> tuple[int, int] | None:
    """Index of the first group norm and number of the axes of what it reads, if that is known."""
    operators = [node.op_type for node in model.graph.node]
    if "GroupNormalization" not in operators:
        return None
    at = operators.index("GroupNormalization")
    kind = value_types(onnx.shape_inference.infer_shapes(model)).get(model.graph.node[at].input[0])
    return None if kind is None or kind.dims is None else (at, len(kind.dims))


def _written_out(node: NodeProto, rank: int, opset: int) -> Nodes:
    (x, scale, bias), output = node.input, node.output[0]
    name = node.name or output
    groups = attribute_of(node, "num_groups")
    build = Nodes(opset)
    per_channel = opset >= 21
    if per_channel:
        ones, zeros = np.ones(groups, np.float32), np.zeros(groups, np.float32)
        parameters = [build.constant(f"{name}/ones", ones), build.constant(f"{name}/zeros", zeros)]
    else:
        parameters = [scale, bias]
    shape = build.add("Shape", [x], f"{name}/shape")
    grouped = build.constant(f"{name}/groups", np.array([0, groups, -1], np.int64))
    values = build.add("Reshape", [x, grouped], f"{name}/grouped")
    values = build.add(
        "InstanceNormalization", [values, *parameters], f"{name}/norm", epsilon=_epsilon_of(node)
    )
    if not per_channel:
        build.add("Reshape", [values, shape], f"{name}/ungrouped", output)
        return build
    values = build.add("Reshape", [values, shape], f"{name}/ungrouped")
    axes = build.constant(f"{name}/axes", np.arange(1, rank - 1, dtype=np.int64))
    scale, bias = (
        build.add("Unsqueeze", [each, axes], f"{name}/{what}")
        for each, what in ((scale, "scale"), (bias, "bias"))
    )
    values = build.add("Mul", [values, scale], f"{name}/scaled")
    build.add("Add", [values, bias], f"{name}/shifted", output)
    return build
