"""A network as the precision stage sees it: its floats, and the types that its operators may have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto

from pixelrt.manifest import PrecisionType
from pixelrt_export.graph import ValueType, value_types

Feeds = Mapping[str, NDArray[Any]]
"""Arrays by the name of a network's input, batch first."""
FP16_SMALLEST_NORMAL = 2.0**-14
TYPELESS = frozenset({"Shape", "Size"})
CHEAP = frozenset(
    {
        *("Relu", "LeakyRelu", "Clip", "Identity", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten"),
        *("Add", "Sub", "Mul", "Div", "Neg", "Abs", "Sqrt", "Pow", "Slice", "Split", "Pad", "Concat", "Cast"),
    }
)
"""Operators that cost less than the two casts around them."""
ELEM_TYPE: dict[PrecisionType, int] = {
    "fp32": TensorProto.FLOAT,
    "fp16": TensorProto.FLOAT16,
    "bf16": TensorProto.BFLOAT16,
}
_ONNX_NAME: dict[int, str] = {
    TensorProto.FLOAT16: "tensor(float16)",
    TensorProto.BFLOAT16: "tensor(bfloat16)",
}


@dataclass(frozen=True, slots=True)
class Network:
    """A checked network, and what is asked about it again and again."""

    model: ModelProto
    opset: int
    types: dict[str, ValueType]
    constants: dict[str, TensorProto]
    """Initializers by name."""
    schemas: tuple[onnx.defs.OpSchema | None, ...]
    """Per node; None for an operator that the standard does not have."""
    names: tuple[str, ...]
    """Per node, each once: its own name, or one made of its operator."""

    @classmethod
    def of(cls, model: ModelProto, opset: int) -> Network:
        """Read a model that went through `checked`."""
        names: list[str] = []
        for index, node in enumerate(model.graph.node):
            name = node.name or f"{node.op_type}_{index}"
            names.append(name if name not in names else f"{name}_{index}")
        return cls(
            model=model,
            opset=opset,
            types=value_types(model),
            constants={tensor.name: tensor for tensor in model.graph.initializer},
            schemas=tuple(_schema(node, opset) for node in model.graph.node),
            names=tuple(names),
        )

    def is_float(self, tensor: str) -> bool:
        """Whether a tensor is float32."""
        return tensor in self.types and self.types[tensor].elem_type == TensorProto.FLOAT

    def inputs(self) -> list[str]:
        """Names of the inputs, in their order."""
        return [value.name for value in self.model.graph.input if value.name not in self.constants]

    def activations(self) -> list[str]:
        """Names of the float tensors that are no constants."""
        return [name for name in self.types if self.is_float(name) and name not in self.constants]

    def is_layer(self, index: int) -> bool:
        """Whether a node computes with floats: those are counted, typed and reported."""
        node = self.model.graph.node[index]
        return node.op_type not in TYPELESS and any(map(self.is_float, (*node.input, *node.output)))

    def can_be(self, index: int, slot: int, elem_type: int, *, output: bool = False) -> bool:
        """Whether the operator may have this type there (Resize, for one, wants its scales in FP32)."""
        schema = self.schemas[index]
        if schema is None:
            return False
        parameters = schema.outputs if output else schema.inputs
        return _ONNX_NAME[elem_type] in parameters[min(slot, len(parameters) - 1)].types


def _schema(node: NodeProto, opset: int) -> onnx.defs.OpSchema | None:
    if node.domain not in ("", "ai.onnx") or not onnx.defs.has(node.op_type, opset, ""):
        return None
    return onnx.defs.get_schema(node.op_type, opset, "")
