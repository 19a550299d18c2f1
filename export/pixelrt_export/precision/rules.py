"""Which layers stay FP32, and why."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from onnx import NodeProto, TensorProto, numpy_helper

from pixelrt.manifest import PrecisionType
from pixelrt_export.graph import attribute_of
from pixelrt_export.precision.neighbours import for_others
from pixelrt_export.precision.network import CHEAP, ELEM_TYPE, FP16_SMALLEST_NORMAL, Network
from pixelrt_export.precision.ranges import Ranges

FP16_MAX = 65504.0
ACTIVATION_LIMIT = FP16_MAX / 4
"""Largest |x| on the calibration samples that FP16 may carry: another scene may reach four times as far."""
ROUNDING_LIMIT = 1e-3
"""Share of an initializer's magnitude that FP16 may round away: twice what it takes from ordinary numbers."""
LARGE_EXTENT = 256
"""Number of values from which a sum or mean is accumulated in FP32."""

_STATISTICS = frozenset(
    {
        "Softmax",
        "LogSoftmax",
        "InstanceNormalization",
        "LayerNormalization",
        "GroupNormalization",
        "RMSNormalization",
        "MeanVarianceNormalization",
        "LpNormalization",
        "ReduceL2",
        "ReduceSumSquare",
    }
)
_REDUCTIONS = frozenset({"ReduceMean", "ReduceSum", "ReduceL1", "ReduceLogSumExp"})
_GLOBAL_POOLS = frozenset({"GlobalAveragePool", "GlobalLpPool"})


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerPrecision:
    """What was decided for one layer, and why."""

    layer: str
    op: str
    max_abs: float
    """Largest |x| of its inputs, outputs and constants on the calibration samples."""
    type: PrecisionType
    why: str


def decide(network: Network, ranges: Ranges, requested: PrecisionType) -> dict[int, LayerPrecision]:
    """Decide for every layer that computes with floats; by the index of its node."""
    nodes = network.model.graph.node
    whys: dict[int, str] = {}
    for index in filter(network.is_layer, range(len(nodes))):
        whys[index] = (
            "fp32 was requested" if requested == "fp32" else _reason(network, index, ranges, requested)
        )
    if requested != "fp32":
        for index, why in for_others(network, ranges, requested).items():
            whys[index] = whys[index] or why
        _join_islands(network, whys)
    return {
        index: LayerPrecision(
            layer=network.names[index],
            op=nodes[index].op_type,
            max_abs=_reach(network, index, ranges),
            type="fp32" if why else requested,
            why=why or "within range",
        )
        for index, why in whys.items()
    }


def _reach(network: Network, index: int, ranges: Ranges) -> float:
    node = network.model.graph.node[index]
    return max((ranges.tensors.get(name, 0.0) for name in (*node.input, *node.output)), default=0.0)


def _reason(network: Network, index: int, ranges: Ranges, requested: PrecisionType) -> str:
    """Why a layer has to stay FP32; empty if nothing speaks for it."""
    node = network.model.graph.node[index]
    if not _supported(network, index, ELEM_TYPE[requested]):
        return f"{node.op_type} has no {requested} form"
    if node.op_type in _STATISTICS:
        return f"{_spoken(node.op_type)}: its statistics need FP32"
    extent = _extent(network, node)
    if extent >= LARGE_EXTENT:
        size = "an unknown number of" if math.isinf(extent) else f"{extent:.0f}"
        return f"{node.op_type} over {size} values: accumulated in FP32"
    return _range_reason(network, index, ranges) if requested == "fp16" else ""


def _spoken(op: str) -> str:
    """An operator as people call it: `InstanceNormalization` is `instance norm`."""
    words = "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in op).strip()
    return words.replace("normalization", "norm")


def _supported(network: Network, index: int, elem_type: int) -> bool:
    """Whether the node can compute in this type: all that it writes, and at least one thing that it reads."""
    node = network.model.graph.node[index]
    if node.op_type == "Cast":
        return True
    reads = [slot for slot, name in enumerate(node.input) if network.is_float(name)]
    writes = [slot for slot, name in enumerate(node.output) if network.is_float(name)]
    return any(network.can_be(index, slot, elem_type) for slot in reads) and all(
        network.can_be(index, slot, elem_type, output=True) for slot in writes
    )


def _extent(network: Network, node: NodeProto) -> float:
    """How many values one output value of a reduction is made of; 0 for other layers."""
    if node.op_type not in _REDUCTIONS | _GLOBAL_POOLS:
        return 0
    dims = network.types[node.input[0]].dims
    if dims is None:
        return math.inf
    if node.op_type in _GLOBAL_POOLS:
        axes = list(range(2, len(dims)))
    else:
        axes = attribute_of(node, "axes", [])
        if len(node.input) > 1 and node.input[1]:
            constant = network.constants.get(node.input[1])
            if constant is None:
                return math.inf
            axes = numpy_helper.to_array(constant).tolist()
    sizes = [dims[axis] for axis in axes or range(len(dims))]
    return math.prod(size if isinstance(size, int) else math.inf for size in sizes)


def _range_reason(network: Network, index: int, ranges: Ranges) -> str:
    node = network.model.graph.node[index]
    for name in node.input:
        if name in network.constants and network.is_float(name):
            why = _constant_reason(network.constants[name])
            if why:
                return why
    moving = {name: ranges.tensors[name] for name in (*node.input, *node.output) if name in ranges.tensors}
    moving = {name: value for name, value in moving.items() if name not in network.constants}
    name = max(moving, key=moving.__getitem__, default="")
    if name and moving[name] > ACTIVATION_LIMIT:
        role = "reads" if name in node.input else "writes"
        return f"{role} |x| up to {moving[name]:.5g}, above the limit of {ACTIVATION_LIMIT:.0f} (65504 / 4)"
    total = ranges.sums.get(network.names[index], 0.0)
    if total > FP16_MAX:
        return f"adds up products of {total:.5g} in total, above 65504"
    for name in node.output:
        if 0.0 < moving.get(name, 0.0) < FP16_SMALLEST_NORMAL:
            return f"writes |x| of {moving[name]:.3g} at most, below FP16's smallest normal number 6.1e-05"
    return ""


def _constant_reason(tensor: TensorProto) -> str:
    values = numpy_helper.to_array(tensor).astype(np.float64)
    values = values[np.isfinite(values)]
    largest = float(np.abs(values).max(initial=0.0))
    if largest > FP16_MAX:
        return f"constant {tensor.name!r} reaches {largest:.5g}, above 65504"
    total = float(np.abs(values).sum())
    lost = float(np.abs(values - values.astype(np.float16)).sum())
    if total and lost / total > ROUNDING_LIMIT:
        return f"constant {tensor.name!r} loses {lost / total:.2%} to FP16's subnormal numbers"
    return ""


def _join_islands(network: Network, whys: dict[int, str]) -> None:
    """Keep cheap layers FP32 where all around them is, so that no pair of casts goes there and back."""
    nodes = network.model.graph.node
    writer = {name: index for index, node in enumerate(nodes) for name in node.output}
    readers: dict[str, list[int]] = {}
    for index, node in enumerate(nodes):
        for name in node.input:
            readers.setdefault(name, []).append(index)

    def is_fp32(index: int) -> bool:
        return bool(whys.get(index))

    def surrounded(index: int) -> bool:
        node = nodes[index]
        before = [name for name in node.input if network.is_float(name) and name not in network.constants]
        after = [reader for name in node.output for reader in readers.get(name, []) if reader in whys]
        outside = {value.name for value in network.model.graph.output}
        leaves = bool(outside.intersection(node.output))
        fed = all(name not in writer or is_fp32(writer[name]) for name in before)
        return bool(before) and fed and bool(after or leaves) and all(map(is_fp32, after))

    changed = True
    while changed:
        found = [i for i, why in whys.items() if not why and nodes[i].op_type in CHEAP and surrounded(i)]
        whys.update(dict.fromkeys(found, "between FP32 layers: two casts would cost more"))
        changed = bool(found)
