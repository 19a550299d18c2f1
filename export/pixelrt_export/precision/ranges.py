"""Largest magnitudes of a network on calibration samples, measured in FP32."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from pixelrt.dependency import require
from pixelrt.errors import ExportError
from pixelrt_export.graph import Nodes, attribute_of, copy_of
from pixelrt_export.precision.network import FP16_SMALLEST_NORMAL, Feeds, Network

ACCUMULATING = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})


@dataclass(frozen=True, slots=True)
class Ranges:
    """What was measured."""

    tensors: dict[str, float]
    """Largest |x| per tensor, initializers included."""
    sums: dict[str, float]
    """Largest sum of |x| * |w| per convolution or matrix product: no order of adding passes it."""
    offsets: dict[str, float]
    """Largest (|mean| + 6.1e-5) / sqrt(variance + epsilon) per normalisation, over what it takes a mean of:
    so many times it enlarges the rounding of what it reads. Below 6.1e-5 FP16 rounds no finer."""


def measure(model: ModelProto, network: Network, calibration: Iterable[Feeds]) -> Ranges:
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
    offsets = {probes[name]: value for name, value in largest.items() if name.startswith("offset/")}
    return Ranges(tensors, sums, offsets)


def _check_feeds(feeds: Feeds, network: Network) -> None:
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


def _with_probes(model: ModelProto, network: Network) -> tuple[ModelProto, dict[str, str]]:
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
        if node.op_type in ACCUMULATING:
            twin = NodeProto()
            twin.CopyFrom(node)
            twin.name = f"sum_of/{layer}"
            twin.input[:] = [f"abs/{name}" if name else "" for name in node.input]
            twin.output[:] = [f"sums/{layer}"]
            probe.graph.node.append(twin)
            watch(f"sums/{layer}", f"sum/{layer}", layer)
        if (axes := _mean_axes(node, network)) is not None:
            probe_of_mean = _offset(node, layer, axes, network.opset)
            probe.graph.node.extend(probe_of_mean.nodes)
            probe.graph.initializer.extend(probe_of_mean.constants.values())
            watch(f"offset_of/{layer}", f"offset/{layer}", layer)
    return probe, probes


def _mean_axes(node: NodeProto, network: Network) -> list[int] | None:
    """Axes over which a normalisation takes its mean; None for other layers."""
    dims = network.types[node.input[0]].dims if node.input else None
    if dims is None:
        return None
    if node.op_type == "InstanceNormalization":
        return list(range(2, len(dims)))
    if node.op_type == "LayerNormalization":
        return list(range(attribute_of(node, "axis", -1) % len(dims), len(dims)))
    return None


def _offset(node: NodeProto, layer: str, axes: list[int], opset: int) -> Nodes:
    """Nodes that make `offset_of/<layer>`."""
    name = f"offset_of/{layer}"
    build = Nodes(opset)
    x = node.input[0]
    mean = build.mean(x, axes, f"{name}/mean")
    centred = build.add("Sub", [x, mean], f"{name}/centred")
    square = build.add("Mul", [centred, centred], f"{name}/square")
    variance = build.mean(square, axes, f"{name}/variance")
    epsilon = build.constant(f"{name}/epsilon", np.array(attribute_of(node, "epsilon", 1e-5), np.float32))
    root = build.add("Sqrt", [build.add("Add", [variance, epsilon], f"{name}/safe")], f"{name}/root")
    size = build.add("Abs", [mean], f"{name}/size")
    least = build.constant(f"{name}/least", np.array(FP16_SMALLEST_NORMAL, np.float32))
    build.add("Div", [build.add("Add", [size, least], f"{name}/plus_least"), root], name)
    return build


def _max_abs(tensor: TensorProto) -> float:
    """Largest finite magnitude; infinities exist in every type and limit nothing."""
    values = np.abs(numpy_helper.to_array(tensor))
    return float(values[np.isfinite(values)].max(initial=0.0))
