"""Types a network FP16 or BF16, and keeps FP32 where ranges or the kind of layer demand it.

The result is strongly typed: weights and activations carry their type, Cast nodes stand where it changes, and
TensorRT has nothing left to choose. The network's own inputs and outputs keep their types.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnx.version_converter
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from pixelrt.dependency import require
from pixelrt.errors import ExportError
from pixelrt.manifest import Island, Precision, PrecisionType
from pixelrt_export.graph import (
    ValueType,
    attribute_of,
    checked,
    constants_to_initializers,
    copy_of,
    opset_of,
    refuse_control_flow,
    replace_nodes,
    value_types,
)

FP16_MAX = 65504.0
FP16_SMALLEST_NORMAL = 2.0**-14
ACTIVATION_LIMIT = FP16_MAX / 4
"""Largest |x| on the calibration samples that FP16 may carry: another scene may reach four times as far."""
ROUNDING_LIMIT = 1e-3
"""Share of an initializer's magnitude that FP16 may round away: twice what it takes from ordinary numbers."""
LARGE_EXTENT = 256
"""Number of values from which a sum or mean is accumulated in FP32."""
BF16_OPSET = 22
"""First operator set in which Conv and the poolings may be BF16."""

_ACCUMULATING = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
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
    }
)
_REDUCTIONS = frozenset(
    {"ReduceMean", "ReduceSum", "ReduceSumSquare", "ReduceL1", "ReduceL2", "ReduceLogSumExp"}
)
_GLOBAL_POOLS = frozenset({"GlobalAveragePool", "GlobalLpPool"})
Feeds = Mapping[str, NDArray[Any]]
"""Arrays by the name of a network's input, batch first."""
_CHEAP = frozenset(
    {
        *("Relu", "LeakyRelu", "Clip", "Identity", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten"),
        *("Add", "Sub", "Mul", "Div", "Neg", "Abs", "Sqrt", "Pow", "Slice", "Split", "Pad", "Concat", "Cast"),
    }
)
"""Operators that cost less than the two casts around them."""
_TYPELESS = frozenset({"Shape", "Size"})
_ELEM_TYPE: dict[PrecisionType, int] = {
    "fp32": TensorProto.FLOAT,
    "fp16": TensorProto.FLOAT16,
    "bf16": TensorProto.BFLOAT16,
}
_ONNX_NAME: dict[int, str] = {
    TensorProto.FLOAT16: "tensor(float16)",
    TensorProto.BFLOAT16: "tensor(bfloat16)",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerPrecision:
    """What was decided for one layer, and why."""

    layer: str
    op: str
    max_abs: float
    """Largest |x| of its inputs, outputs and constants on the calibration samples."""
    type: PrecisionType
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PrecisionReport:
    """Every layer of a network in its order, with the type it has got."""

    requested: PrecisionType
    layers: tuple[LayerPrecision, ...]
    counts: dict[str, int]
    """Number of layers per type, read from the converted ONNX."""
    num_casts: int
    """Cast nodes that were inserted."""

    def to_manifest(self) -> Precision:
        """The part of it that a bundle's manifest records."""
        islands = tuple(
            Island(layer=layer.layer, max_abs=layer.max_abs, reason=layer.why)
            for layer in self.layers
            if layer.type == "fp32" and self.requested != "fp32"
        )
        return Precision(requested=self.requested, layers=dict(self.counts), islands=islands)


@dataclass(frozen=True, slots=True)
class _Ranges:
    tensors: dict[str, float]
    """Largest |x| per tensor, initializers included."""
    sums: dict[str, float]
    """Largest sum of |x| * |w| per convolution or matrix product: no order of adding passes it."""


def to_precision(
    model: ModelProto, calibration: Iterable[Feeds], requested: PrecisionType
) -> tuple[ModelProto, PrecisionReport]:
    """Type a network FP16 or BF16, with FP32 islands where they are needed.

    A layer stays FP32 if one of these holds: it normalises or sums many values (softmax, instance norm, a
    mean over 256 values or more); the largest |x| it reads or writes exceeds 16376, a quarter of FP16's
    range; the products that it adds up may exceed 65504; a constant of it exceeds 65504 or would lose its
    digits to FP16's subnormal numbers; the operator has no such type; or it is cheap and stands between FP32
    layers. BF16 has FP32's range, so the rules of range do not apply to it; it raises the operator set to 22,
    the first in which a convolution may be BF16.

    Args:
        model: FP32 network with any number of inputs, float32 or int64, and of outputs.
        calibration: Feeds of the network by the name of the input, as in use (images normalised, masks
            one-hot, ...), batch first; the ranges come from them.
        requested: `fp32` measures and reports, and changes no type.

    Returns:
        The network, whose inputs and outputs have the types that they had, and what was decided for each
        layer.

    Raises:
        ExportError: If the network is malformed, has control flow or gives NaN in FP32, if there are no
            feeds, or if some do not fit the inputs.
    """
    refuse_control_flow(model)
    plain, _ = constants_to_initializers(model)
    if requested == "bf16":
        plain, _ = _raise_opset(plain, BF16_OPSET)
    plain = checked(plain)
    network = _Network.of(plain, opset_of(plain))
    ranges = _measure(plain, network, calibration)
    decided = _decide(network, ranges, requested)
    typed, _ = _retype(
        network, {index: layer.type for index, layer in decided.items()}, _ELEM_TYPE[requested]
    )
    typed = checked(typed)
    layers = tuple(decided.values())
    report = PrecisionReport(
        requested=requested,
        layers=layers,
        counts=_count(typed, {layer.layer for layer in layers}),
        num_casts=len(typed.graph.node) - len(plain.graph.node),
    )
    return typed, report


def _raise_opset(model: ModelProto, version: int) -> tuple[ModelProto, bool]:
    if opset_of(model) >= version:
        return model, False
    try:
        return onnx.version_converter.convert_version(model, version), True
    except (onnx.version_converter.ConvertError, RuntimeError) as problem:
        raise ExportError(
            f"bf16 needs ONNX operator set {version}, and the network cannot be raised to it: {problem}; "
            "use fp16 or fp32"
        ) from problem


@dataclass(frozen=True, slots=True)
class _Network:
    model: ModelProto
    types: dict[str, ValueType]
    constants: dict[str, TensorProto]
    schemas: tuple[onnx.defs.OpSchema | None, ...]
    names: tuple[str, ...]

    @classmethod
    def of(cls, model: ModelProto, opset: int) -> _Network:
        names: list[str] = []
        for index, node in enumerate(model.graph.node):
            name = node.name or f"{node.op_type}_{index}"
            names.append(name if name not in names else f"{name}_{index}")
        return cls(
            model=model,
            types=value_types(model),
            constants={tensor.name: tensor for tensor in model.graph.initializer},
            schemas=tuple(_schema(node, opset) for node in model.graph.node),
            names=tuple(names),
        )

    def is_float(self, tensor: str) -> bool:
        return tensor in self.types and self.types[tensor].elem_type == TensorProto.FLOAT

    def inputs(self) -> list[str]:
        """Names of the inputs, in their order."""
        return [value.name for value in self.model.graph.input if value.name not in self.constants]

    def activations(self) -> list[str]:
        return [name for name in self.types if self.is_float(name) and name not in self.constants]

    def is_layer(self, index: int) -> bool:
        """Whether a node computes with floats: those are counted, typed and reported."""
        node = self.model.graph.node[index]
        return node.op_type not in _TYPELESS and any(map(self.is_float, (*node.input, *node.output)))

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


# --- measuring ------------------------------------------------------------------------------------


def _measure(model: ModelProto, network: _Network, calibration: Iterable[Feeds]) -> _Ranges:
    """Run the calibration feeds through the FP32 network and keep the largest |x| of everything."""
    runtime = require("onnxruntime", "export", "measuring activation ranges")
    probe, probes = _with_probes(model, network)
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    session = runtime.InferenceSession(probe.SerializeToString(), options, providers=["CPUExecutionProvider"])
    largest = dict.fromkeys(probes, 0.0)
    count = 0
    for feeds in calibration:
        _check_feeds(feeds, network)
        for name, value in zip(probes, session.run(list(probes), dict(feeds)), strict=True):
            if math.isnan(float(value)):
                raise ExportError(
                    f"{probes[name]!r} is NaN in FP32 on calibration sample {count}, numbers were "
                    "expected; check the network's weights and the sample"
                )
            largest[name] = max(largest[name], float(value))
        count += 1
    if not count:
        raise ExportError(
            "no calibration sample was given, at least one was expected: name a folder of images, or let "
            "the samples be drawn"
        )
    tensors = {probes[name]: value for name, value in largest.items() if name.startswith("max/")}
    tensors.update(
        {name: _max_abs(tensor) for name, tensor in network.constants.items() if network.is_float(name)}
    )
    sums = {probes[name]: value for name, value in largest.items() if name.startswith("sum/")}
    return _Ranges(tensors, sums)


def _check_feeds(feeds: Feeds, network: _Network) -> None:
    names = network.inputs()
    if set(feeds) != set(names):
        raise ExportError(
            f"a calibration sample feeds {sorted(feeds)}, the network has the inputs {names}; feed each of "
            "them and nothing else"
        )
    for name in names:
        kind, value = network.types[name], feeds[name]
        dtype = helper.tensor_dtype_to_np_dtype(kind.elem_type)
        dims = kind.dims or ()
        fits = len(dims) == value.ndim and all(
            not isinstance(dim, int) or dim == size for dim, size in zip(dims, value.shape, strict=True)
        )
        if value.dtype != dtype or not fits:
            raise ExportError(
                f"a calibration sample is {value.dtype}{list(value.shape)}, the network's input {name!r} is "
                f"{dtype}[{', '.join(map(str, dims))}]; prepare the samples as the network expects them"
            )


def _with_probes(model: ModelProto, network: _Network) -> tuple[ModelProto, dict[str, str]]:
    """Add scalar outputs: `max/<tensor>` per activation, `sum/<layer>` per convolution."""
    probe = copy_of(model)
    probes: dict[str, str] = {}
    del probe.graph.output[:]

    def watch(tensor: str, output: str, about: str, op: str = "ReduceMax") -> None:
        probe.graph.node.append(helper.make_node(op, [tensor], [output], keepdims=0))
        probe.graph.output.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, []))
        probes[output] = about

    for name in network.activations():
        probe.graph.node.append(helper.make_node("Abs", [name], [f"abs/{name}"]))
        watch(f"abs/{name}", f"max/{name}", name)
    for value in model.graph.output:
        if network.is_float(value.name):  # ONNX Runtime's ReduceMax passes over NaN, a sum does not
            watch(f"abs/{value.name}", f"nan/{value.name}", value.name, "ReduceSum")
    for name, tensor in network.constants.items():
        if network.is_float(name):
            probe.graph.initializer.append(
                numpy_helper.from_array(np.abs(numpy_helper.to_array(tensor)), f"abs/{name}")
            )
    for node, layer in zip(model.graph.node, network.names, strict=True):
        if node.op_type in _ACCUMULATING:
            twin = NodeProto()
            twin.CopyFrom(node)
            twin.name = f"sum_of/{layer}"
            twin.input[:] = [f"abs/{name}" if name else "" for name in node.input]
            twin.output[:] = [f"sums/{layer}"]
            probe.graph.node.append(twin)
            watch(f"sums/{layer}", f"sum/{layer}", layer)
    return probe, probes


def _max_abs(tensor: TensorProto) -> float:
    """Largest finite magnitude; infinities exist in every type and limit nothing."""
    values = np.abs(numpy_helper.to_array(tensor))
    return float(values[np.isfinite(values)].max(initial=0.0))


# --- deciding -------------------------------------------------------------------------------------


def _decide(network: _Network, ranges: _Ranges, requested: PrecisionType) -> dict[int, LayerPrecision]:
    nodes = network.model.graph.node
    whys: dict[int, str] = {}
    for index in filter(network.is_layer, range(len(nodes))):
        whys[index] = (
            "fp32 was requested" if requested == "fp32" else _reason(network, index, ranges, requested)
        )
    if requested != "fp32":
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


def _reach(network: _Network, index: int, ranges: _Ranges) -> float:
    node = network.model.graph.node[index]
    return max((ranges.tensors.get(name, 0.0) for name in (*node.input, *node.output)), default=0.0)


def _reason(network: _Network, index: int, ranges: _Ranges, requested: PrecisionType) -> str:
    """Why a layer has to stay FP32; empty if nothing speaks for it."""
    node = network.model.graph.node[index]
    if not _supported(network, index, _ELEM_TYPE[requested]):
        return f"{node.op_type} has no {requested} form"
    if node.op_type in _STATISTICS:
        return f"{node.op_type} sums many values: its statistics need FP32"
    extent = _extent(network, node)
    if extent >= LARGE_EXTENT:
        size = "an unknown number of" if math.isinf(extent) else f"{extent:.0f}"
        return f"{node.op_type} over {size} values: accumulated in FP32"
    return _range_reason(network, index, ranges) if requested == "fp16" else ""


def _supported(network: _Network, index: int, elem_type: int) -> bool:
    """Whether the node can compute in this type: all that it writes, and at least one thing that it reads."""
    node = network.model.graph.node[index]
    if node.op_type == "Cast":
        return True
    reads = [slot for slot, name in enumerate(node.input) if network.is_float(name)]
    writes = [slot for slot, name in enumerate(node.output) if network.is_float(name)]
    return any(network.can_be(index, slot, elem_type) for slot in reads) and all(
        network.can_be(index, slot, elem_type, output=True) for slot in writes
    )


def _extent(network: _Network, node: NodeProto) -> float:
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


def _range_reason(network: _Network, index: int, ranges: _Ranges) -> str:
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


def _join_islands(network: _Network, whys: dict[int, str]) -> None:
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
        found = [i for i, why in whys.items() if not why and nodes[i].op_type in _CHEAP and surrounded(i)]
        whys.update(dict.fromkeys(found, "between FP32 layers: two casts would cost more"))
        changed = bool(found)


# --- rewriting ------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Writer:
    """The typed graph under construction."""

    network: _Network
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
            elif self.network.is_float(name) and node.op_type in _TYPELESS:
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


def _retype(network: _Network, types: Mapping[int, PrecisionType], low: int) -> tuple[ModelProto, bool]:
    writer = _Writer(network, low)
    for index in range(len(network.model.graph.node)):
        writer.write(index, _ELEM_TYPE[types.get(index, "fp32")])
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


def _count(model: ModelProto, layers: set[str]) -> dict[str, int]:
    """Layers per type as the ONNX has them: the type a layer writes, or reads where it writes no float."""
    types = value_types(model)
    names = {elem_type: name for name, elem_type in _ELEM_TYPE.items()}
    counts: Counter[str] = Counter()
    for node in model.graph.node:
        if node.name in layers:
            found = [
                names[types[t].elem_type] for t in (*node.output, *node.input) if _type_of(types, t) in names
            ]
            counts[found[0]] += 1
    return dict(counts)


def _type_of(types: Mapping[str, ValueType], tensor: str) -> int:
    """Element type of a tensor; UNDEFINED for an input that was left out."""
    return types[tensor].elem_type if tensor in types else TensorProto.UNDEFINED
