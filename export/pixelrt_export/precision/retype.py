"""Writes a network anew with the types that were decided, casts where they change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from pixelrt.manifest import PrecisionType
from pixelrt_export.graph import attribute_of, copy_of, replace_nodes
from pixelrt_export.precision.network import ELEM_TYPE, TYPELESS, Network


@dataclass(slots=True)
class _Writer:
    """The typed graph under construction."""

    network: Network
    low: int
    nodes: list[NodeProto] = field(default_factory=list)
    constants: dict[str, TensorProto] = field(default_factory=dict)
    types: dict[str, int] = field(default_factory=dict)
    """Type that each float activation has where it is made."""
    casts: dict[tuple[str, int], str] = field(default_factory=dict)

    def read(self, tensor: str, elem_type: int) -> str:
        """Name under which a tensor exists in a type; Cast or converted constant are made at first use."""
        suffix = "fp32" if elem_type == TensorProto.FLOAT else _suffix(self.low)
        if tensor in self.network.constants:
            name = tensor if elem_type == TensorProto.FLOAT else f"{tensor}/{suffix}"
            if name not in self.constants:
                self.constants[name] = _convert(self.network.constants[tensor], elem_type, name)
            return name
        if self.types.get(tensor, TensorProto.FLOAT) == elem_type:
            return self.casts.get((tensor, elem_type), tensor)
        if (tensor, elem_type) not in self.casts:
            name = f"{tensor}/{suffix}"
            self.nodes.append(
                helper.make_node("Cast", [tensor], [name], name=f"{tensor}/to_{suffix}", to=elem_type)
            )
            self.casts[tensor, elem_type] = name
        return self.casts[tensor, elem_type]

    def write(self, index: int, elem_type: int) -> None:
        """Copy a node and let it compute in a type."""
        node = NodeProto()
        node.CopyFrom(self.network.model.graph.node[index])
        node.name = self.network.names[index]
        low = elem_type != TensorProto.FLOAT
        for slot, name in enumerate(node.input):
            if name in self.network.constants and not self.network.is_float(name):
                self.constants[name] = self.network.constants[name]
            elif self.network.is_float(name) and node.op_type in TYPELESS:
                node.input[slot] = self.read(name, self.types.get(name, TensorProto.FLOAT))
            elif self.network.is_float(name):
                fits = low and self.network.can_be(index, slot, elem_type)
                node.input[slot] = self.read(name, elem_type if fits else TensorProto.FLOAT)
        if node.op_type == "Cast" and attribute_of(node, "to") == TensorProto.FLOAT:
            del node.attribute[:]
            node.attribute.append(helper.make_attribute("to", elem_type))
        self.nodes.append(node)
        for slot, name in enumerate(node.output):
            if self.network.is_float(name):
                self.types[name] = elem_type
                self._leave(node, slot, name)

    def _leave(self, node: NodeProto, slot: int, name: str) -> None:
        """Keep a graph output float32 under its own name; inside, the low type goes on under another one."""
        outputs = {value.name for value in self.network.model.graph.output}
        if name not in outputs or self.types[name] == TensorProto.FLOAT:
            return
        inner = f"{name}/{_suffix(self.low)}"
        node.output[slot] = inner
        self.nodes.append(
            helper.make_node("Cast", [inner], [name], name=f"{name}/to_fp32", to=TensorProto.FLOAT)
        )
        self.casts[name, self.low] = inner
        self.casts[name, TensorProto.FLOAT] = name


def _suffix(elem_type: int) -> str:
    return "fp16" if elem_type == TensorProto.FLOAT16 else "bf16"


def retype(network: Network, types: Mapping[int, PrecisionType], low: int) -> tuple[ModelProto, bool]:
    """Give each layer its type.

    Args:
        network: In FP32.
        types: By the index of the node; others stay FP32.
        low: The `TensorProto.DataType` of what is not FP32.
    """
    writer = _Writer(network, low)
    for index in range(len(network.model.graph.node)):
        writer.write(index, ELEM_TYPE[types.get(index, "fp32")])
    typed = copy_of(network.model)
    replace_nodes(typed, writer.nodes)
    del typed.graph.initializer[:]
    typed.graph.initializer.extend(writer.constants.values())
    return typed, any(kind != "fp32" for kind in types.values())


def _convert(tensor: TensorProto, elem_type: int, name: str) -> TensorProto:
    """A constant in another type, rounded to nearest even."""
    values = numpy_helper.to_array(tensor)
    if elem_type == TensorProto.FLOAT16:
        return numpy_helper.from_array(values.astype(np.float16), name)
    if elem_type == TensorProto.FLOAT:
        return numpy_helper.from_array(values, name)
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")
    converted = TensorProto(name=name, data_type=TensorProto.BFLOAT16, raw_data=rounded.tobytes())
    converted.dims.extend(values.shape)
    return converted
