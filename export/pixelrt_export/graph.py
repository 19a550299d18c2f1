"""Small edits of ONNX graphs: functions from a model to `(model, changed)`; the argument stays as it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from pixelrt.errors import ExportError

OLDEST_OPSET = 13
"""Below it, Squeeze and ReduceSum name their axes differently; torch.onnx writes 18 and newer."""


@dataclass(frozen=True, slots=True)
class ValueType:
    """Element type (a `TensorProto.DataType`) and dimensions; None or a name where a size is not fixed."""

    elem_type: int
    dims: tuple[int | str | None, ...] | None


def copy_of(model: ModelProto) -> ModelProto:
    """An independent copy of a model."""
    copied = ModelProto()
    copied.CopyFrom(model)
    return copied


def opset_of(model: ModelProto) -> int:
    """Version of the standard operator set that a model uses.

    Raises:
        ExportError: If the model uses none, or one too old for the edits of this package.
    """
    for imported in model.opset_import:
        if imported.domain in ("", "ai.onnx"):
            if imported.version >= OLDEST_OPSET:
                return int(imported.version)
            raise ExportError(
                f"the network uses ONNX operator set {imported.version}, {OLDEST_OPSET} or newer was "
                "expected; export it again, or raise it with onnx.version_converter"
            )
    raise ExportError("the network imports no standard ONNX operator set; export it again with torch.onnx")


def refuse_control_flow(model: ModelProto) -> None:
    """Refuse nodes that hold graphs of their own, and model-local functions.

    Raises:
        ExportError: Naming the first such node or function.
    """
    for node in model.graph.node:
        if any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute):
            raise ExportError(
                f"node {node.name!r} ({node.op_type}) holds a graph of its own; a network without control "
                "flow was expected: replace the if or the loop in forward() by tensor operations"
            )
    if model.functions:
        raise ExportError(
            f"the network holds the function {model.functions[0].name!r}; a flat graph was expected: "
            "inline it with onnx.inliner.inline_local_functions"
        )


def checked(model: ModelProto) -> ModelProto:
    """The model with the type and shape of every tensor inferred, after the strictest check that ONNX has.

    Raises:
        ExportError: If the graph is malformed or its types disagree; the message is the checker's.
    """
    bare = copy_of(model)
    del bare.graph.value_info[:]
    try:
        inferred = onnx.shape_inference.infer_shapes(bare, check_type=True, strict_mode=True, data_prop=True)
        onnx.checker.check_model(inferred, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as problem:
        raise ExportError(
            f"the graph does not pass ONNX's own check: {problem}; please report this, with the network"
        ) from problem
    return inferred


def value_types(model: ModelProto) -> dict[str, ValueType]:
    """Types of all tensors of a model that went through `checked`, initializers included."""
    types = {
        tensor.name: ValueType(tensor.data_type, tuple(tensor.dims)) for tensor in model.graph.initializer
    }
    for value in (*model.graph.input, *model.graph.value_info, *model.graph.output):
        types[value.name] = _value_type(value)
    return types


def _value_type(value: onnx.ValueInfoProto) -> ValueType:
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return ValueType(tensor.elem_type, None)
    dims = (dim.dim_value if dim.HasField("dim_value") else dim.dim_param or None for dim in tensor.shape.dim)
    return ValueType(tensor.elem_type, tuple(dims))


def attribute_of(node: NodeProto, name: str, default: Any = None) -> Any:
    """Value of a node's attribute, `default` where it has none of that name."""
    for attribute in node.attribute:
        if attribute.name == name:
            return helper.get_attribute_value(attribute)
    return default


def rename_tensors(model: ModelProto, names: Mapping[str, str]) -> tuple[ModelProto, bool]:
    """Give tensors new names, wherever they occur."""
    renamed = copy_of(model)
    changed = False
    for node in renamed.graph.node:
        for names_of_node in (node.input, node.output):
            for index, name in enumerate(names_of_node):
                if name in names:
                    names_of_node[index] = names[name]
                    changed = True
    graph = renamed.graph
    for holder in (*graph.initializer, *graph.input, *graph.output, *graph.value_info):
        if holder.name in names:
            holder.name = names[holder.name]
            changed = True
    return renamed, changed


def drop_unused(model: ModelProto) -> tuple[ModelProto, bool]:
    """Remove nodes and initializers that no graph output needs."""
    needed = {value.name for value in model.graph.output}
    kept = []
    for node in reversed(model.graph.node):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(node.input)
    constants = [tensor for tensor in model.graph.initializer if tensor.name in needed]
    changed = len(kept) < len(model.graph.node) or len(constants) < len(model.graph.initializer)
    if not changed:
        return model, False
    pruned = copy_of(model)
    replace_nodes(pruned, kept[::-1])
    del pruned.graph.initializer[:]
    pruned.graph.initializer.extend(constants)
    return pruned, True


def constants_to_initializers(model: ModelProto) -> tuple[ModelProto, bool]:
    """Turn Constant nodes into initializers, so that every constant is found in one place."""
    edited = copy_of(model)
    kept = []
    for node in edited.graph.node:
        tensor = _constant(node)
        if tensor is None:
            kept.append(node)
        else:
            edited.graph.initializer.append(tensor)
    changed = len(kept) < len(edited.graph.node)
    if changed:
        replace_nodes(edited, kept)
    return edited, changed


def _constant(node: NodeProto) -> TensorProto | None:
    if node.op_type != "Constant" or node.domain not in ("", "ai.onnx"):
        return None
    (attribute,) = node.attribute
    value = helper.get_attribute_value(attribute)
    if attribute.name == "value":
        tensor = TensorProto()
        tensor.CopyFrom(value)
        tensor.name = node.output[0]
        return tensor
    if attribute.name in ("value_float", "value_floats"):
        return numpy_helper.from_array(np.asarray(value, dtype=np.float32), node.output[0])
    if attribute.name in ("value_int", "value_ints"):
        return numpy_helper.from_array(np.asarray(value, dtype=np.int64), node.output[0])
    return None


def replace_nodes(model: ModelProto, nodes: Sequence[NodeProto]) -> None:
    """Put other nodes in the place of a model's nodes, in the given order."""
    kept = list(nodes)
    fresh = onnx.GraphProto()
    fresh.node.extend(kept)
    del model.graph.node[:]
    model.graph.node.extend(fresh.node)


@dataclass(slots=True)
class Nodes:
    """Nodes and constants under construction. Every method returns the name of the tensor that it makes."""

    opset: int
    nodes: list[NodeProto] = field(default_factory=list)
    constants: dict[str, TensorProto] = field(default_factory=dict)

    def names(self) -> set[str]:
        """Names of all nodes, of what they write, and of the constants."""
        written = {name for node in self.nodes for name in (node.name, *node.output)}
        return written | set(self.constants)

    def constant(self, name: str, value: NDArray[Any]) -> str:
        """Add a constant. The same name means the same constant."""
        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(np.asarray(value, order="C"), name)
        return name

    def add(self, op: str, inputs: Sequence[str], name: str, output: str = "", **attributes: Any) -> str:
        """Add a node with one output, which is called like the node unless `output` names it."""
        output = output or name
        self.nodes.append(helper.make_node(op, list(inputs), [output], name=name, **attributes))
        return output

    def cast(self, tensor: str, elem_type: int, name: str, output: str = "") -> str:
        """Add a Cast to a `TensorProto.DataType`."""
        return self.add("Cast", [tensor], name, output, to=elem_type)

    def reduce(self, op: str, tensor: str, axis: int, name: str, output: str = "") -> str:
        """Add a ReduceMax or ReduceMean over one axis, which disappears, as the operator set spells it."""
        if self.opset < 18:
            return self.add(op, [tensor], name, output, axes=[axis], keepdims=0)
        axes = self.constant(f"axis_{axis}", np.array([axis], dtype=np.int64))
        return self.add(op, [tensor, axes], name, output, keepdims=0)

    def mean(self, tensor: str, axes: Sequence[int], name: str) -> str:
        """Add a ReduceMean over axes, which stay with size 1, as the operator set spells it."""
        if self.opset < 18:
            return self.add("ReduceMean", [tensor], name, axes=list(axes), keepdims=1)
        constant = self.constant(f"{name}/axes", np.array(axes, dtype=np.int64))
        return self.add("ReduceMean", [tensor, constant], name, keepdims=1)
