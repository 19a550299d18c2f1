"""Low precision without hardware for it: FP32 layers whose every result is rounded, as a GPU rounds it.

ONNX Runtime's CPU provider runs an FP16 graph in FP32 and leaves out the casts between the layers (measured
with 1.32, at every optimisation level): only weights are rounded, and no activation can overflow. A graph
with its roundings written out is run as it is written.
"""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from pixelrt_export.graph import attribute_of, checked, copy_of, replace_nodes, value_types

_LOW: dict[int, str] = {TensorProto.FLOAT16: "fp16", TensorProto.BFLOAT16: "bf16"}


def round_explicitly(model: ModelProto) -> tuple[ModelProto, bool]:
    """Turn FP16 and BF16 layers into FP32 layers with a pair of casts behind each, down and up again.

    Weights keep the values that they were rounded to. A convolution adds up in FP32 and rounds once, as
    tensor cores do.
    """
    types = {name: kind.elem_type for name, kind in value_types(checked(model)).items()}
    low = {name: elem_type for name, elem_type in types.items() if elem_type in _LOW}
    if not low:
        return model, False
    edited = copy_of(model)
    nodes: list[NodeProto] = []
    for node in edited.graph.node:
        nodes.append(node)
        if node.op_type == "Cast" and attribute_of(node, "to") in _LOW:
            del node.attribute[:]
            node.attribute.append(helper.make_attribute("to", TensorProto.FLOAT))
        for slot, name in enumerate(node.output):
            if name in low:
                node.output[slot] = f"{name}/exact"
                nodes.extend(_rounded(f"{name}/exact", name, low[name]))
    replace_nodes(edited, nodes)
    constants = [_widened(tensor) if tensor.name in low else tensor for tensor in model.graph.initializer]
    del edited.graph.initializer[:], edited.graph.value_info[:]
    edited.graph.initializer.extend(constants)
    return edited, True


def _rounded(exact: str, name: str, elem_type: int) -> list[NodeProto]:
    narrow = f"{name}/{_LOW[elem_type]}"
    return [
        helper.make_node("Cast", [exact], [narrow], name=f"{name}/down", to=elem_type),
        helper.make_node("Cast", [narrow], [name], name=f"{name}/up", to=TensorProto.FLOAT),
    ]


def _widened(tensor: TensorProto) -> TensorProto:
    return numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name)
