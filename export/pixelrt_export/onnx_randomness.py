"""Random nodes of ONNX, and the inputs that take their place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from pixelrt.errors import ExportError
from pixelrt.manifest import NoiseDistribution
from pixelrt_export.graph import (
    Nodes,
    attribute_of,
    constants_to_initializers,
    copy_of,
    opset_of,
    replace_nodes,
)
from pixelrt_export.inputs import NetworkSpec
from pixelrt_export.noise import Draw, Noise, as_inputs

Shapes = Callable[[ModelProto, "list[str]", int], "list[tuple[int, ...]] | None"]
"""Runs a model with a batch; from names of outputs to their shapes, None if it takes no such batch."""

_NORMAL, _UNIFORM = ("RandomNormal", "RandomNormalLike"), ("RandomUniform", "RandomUniformLike")
_LIFTED = (*_NORMAL, *_UNIFORM, "Bernoulli", "Dropout")
_REFUSED = ("Multinomial",)
_ADVICE = (
    "Export it without (model.eval()), take the random numbers as an input of the network, or export the "
    "PyTorch module itself, whose randomness PixelRT makes an input"
)


def random_to_inputs(
    model: ModelProto, spec: NetworkSpec, name: str, shapes: Shapes
) -> tuple[ModelProto, dict[str, Noise]]:
    """Put inputs in the place of random nodes, of whose numbers every runtime draws others.

    RandomNormal and RandomUniform (Like or not), Bernoulli, and Dropout in training mode; their seeds are
    dropped.

    Args:
        model: A network with a batch of any size.
        spec: What is wanted of it.
        name: What to call it in messages.
        shapes: Runs a model.

    Returns:
        The model, and its new inputs by name, in the order of the nodes.

    Raises:
        ExportError: If a node cannot become an input.
    """
    folded, _ = constants_to_initializers(model)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in folded.graph.initializer}
    for graph in _inner_graphs(folded.graph):
        for node in graph.node:
            if _is_random(node, {}):
                raise ExportError(_refusal(node, name, "inside a loop or a branch"))
    nodes = [node for node in folded.graph.node if _is_random(node, constants)]
    draws = [_kind(node, constants, name) for node in nodes]
    if not nodes:
        return model, {}
    noise = as_inputs(*_drawn(folded, nodes, draws, name, shapes), spec.max_batch, name)
    inputs = {f"pixelrt/{one.info.name}": one for one in noise}
    stand_ins = {
        node.output[0]: _stand_in(node, given, one, constants, opset_of(folded))
        for node, (given, one) in zip(nodes, inputs.items(), strict=True)
    }
    return _replaced(folded, stand_ins, inputs), inputs


def _is_random(node: NodeProto, constants: Mapping[str, NDArray[Any]]) -> bool:
    if node.domain not in ("", "ai.onnx"):
        return False
    if node.op_type == "Dropout":
        training = node.input[2] if len(node.input) > 2 else ""
        return bool(training) and bool(constants.get(training, np.array(True)).all())
    return node.op_type in (*_LIFTED, *_REFUSED)


def _kind(node: NodeProto, constants: Mapping[str, NDArray[Any]], name: str) -> tuple[NoiseDistribution, str]:
    """The distribution of a node's numbers, and what the manifest calls it."""
    if node.op_type in _REFUSED:
        raise ExportError(_refusal(node, name, "whose numbers cannot be given"))
    if node.op_type != "Dropout":
        if (
            attribute_of(node, "dtype", TensorProto.FLOAT) != TensorProto.FLOAT
            and node.op_type != "Bernoulli"
        ):
            raise ExportError(_refusal(node, name, "of another type than float32"))
        return ("normal" if node.op_type in _NORMAL else "unit"), node.op_type
    if node.input[2] not in constants or (node.input[1] and node.input[1] not in constants):
        raise ExportError(_refusal(node, name, "whose ratio or training mode is computed"))
    return "unit", f"Dropout (p = {_ratio(node, constants):g})"


def _ratio(node: NodeProto, constants: Mapping[str, NDArray[Any]]) -> float:
    return float(constants[node.input[1]]) if node.input[1] else 0.5


def _refusal(node: NodeProto, name: str, why: str) -> str:
    return (
        f"{name} draws random numbers: the node {node.name or node.output[0]!r} is a {node.op_type}, {why}. "
        f"{_ADVICE}"
    )


def _inner_graphs(graph: GraphProto) -> Iterator[GraphProto]:
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield inner
                yield from _inner_graphs(inner)


def _drawn(
    model: ModelProto,
    nodes: Sequence[NodeProto],
    kinds: Sequence[tuple[NoiseDistribution, str]],
    name: str,
    shapes: Shapes,
) -> tuple[list[Draw], list[Draw] | None]:
    """What is drawn for a batch of one, and for one of two."""
    outputs = [node.output[0] for node in nodes]
    shown = copy_of(model)
    known = {value.name for value in shown.graph.output}
    shown.graph.output.extend(onnx.ValueInfoProto(name=output) for output in outputs if output not in known)

    def draws(found: Sequence[tuple[int, ...]]) -> list[Draw]:
        return [
            Draw(distribution, shape, what, f"node {node.name or node.output[0]!r}")
            for node, (distribution, what), shape in zip(nodes, kinds, found, strict=True)
        ]

    one, two = (shapes(shown, outputs, batch) for batch in (1, 2))
    if one is None:
        raise ExportError(
            f"{name} does not run, so that the shapes of its random numbers ({kinds[0][1]}) are not known; "
            "check the sizes of its inputs"
        )
    return draws(one), None if two is None else draws(two)


def _stand_in(
    node: NodeProto, given: str, noise: Noise, constants: Mapping[str, NDArray[Any]], opset: int
) -> Nodes:
    """Nodes that compute what a random node returned, from its input."""
    build = Nodes(opset)
    value = _drawn_shape(build, given, noise)
    if node.op_type in _NORMAL:
        scale, offset = attribute_of(node, "scale", 1.0), attribute_of(node, "mean", 0.0)
    else:
        offset = attribute_of(node, "low", 0.0)
        scale = attribute_of(node, "high", 1.0) - offset
    if node.op_type in (*_NORMAL, *_UNIFORM):
        factor = build.constant(f"{given}/scale", np.array(scale, dtype=np.float32))
        scaled = build.add("Mul", [value, factor], f"{given}/scaled")
        shift = build.constant(f"{given}/offset", np.array(offset, dtype=np.float32))
        build.add("Add", [scaled, shift], f"{given}/moved", node.output[0])
    elif node.op_type == "Bernoulli":
        chosen = build.add("Less", [value, node.input[0]], f"{given}/chosen")
        build.cast(chosen, attribute_of(node, "dtype", TensorProto.FLOAT), f"{given}/cast", node.output[0])
    else:
        _drop(build, node, value, given, _ratio(node, constants))
    return build


def _drawn_shape(build: Nodes, given: str, noise: Noise) -> str:
    """See `Noise.drawn`."""
    shape = noise.shape if noise.shape is not None else (-1, *noise.info.size[1:])
    if noise.shape is not None or noise.joined:
        target = build.constant(f"{given}/shape", np.array(shape, dtype=np.int64))
        given = build.add("Reshape", [given, target], f"{given}/reshaped")
    if noise.axis:
        count = len(noise.info.size) + (0 if noise.joined else 1)
        order = [*range(1, noise.axis + 1), 0, *range(noise.axis + 1, count)]
        given = build.add("Transpose", [given], f"{given}/moved_batch", perm=order)
    return given


def _drop(build: Nodes, node: NodeProto, value: str, given: str, ratio: float) -> None:
    limit = build.constant(f"{given}/ratio", np.array(ratio, dtype=np.float32))
    mask = node.output[1] if len(node.output) > 1 else ""
    kept = build.add("GreaterOrEqual", [value, limit], f"{given}/kept", mask)
    factor = build.constant(f"{given}/scale", np.array(1 / (1 - ratio) if ratio < 1 else 0, dtype=np.float32))
    scale = build.add(
        "Mul", [build.cast(kept, TensorProto.FLOAT, f"{given}/cast"), factor], f"{given}/scaled"
    )
    build.add("Mul", [node.input[0], scale], f"{given}/dropped", node.output[0])


def _replaced(model: ModelProto, stand_ins: Mapping[str, Nodes], inputs: Mapping[str, Noise]) -> ModelProto:
    lifted = copy_of(model)
    nodes: list[NodeProto] = []
    for node in lifted.graph.node:
        built = stand_ins.get(node.output[0]) if node.output else None
        nodes.extend(built.nodes if built else [node])
    replace_nodes(lifted, nodes)
    for built in stand_ins.values():
        lifted.graph.initializer.extend(built.constants.values())
    lifted.graph.input.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *one.info.size])
        for name, one in inputs.items()
    )
    return lifted
