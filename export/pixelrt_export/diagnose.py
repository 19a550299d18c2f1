"""Where a converted network begins to differ from the original: for the message of a gate that failed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto

from pixelrt.dependency import require
from pixelrt.manifest import PrecisionType
from pixelrt_export.graph import checked, constants_to_initializers, copy_of, value_types
from pixelrt_export.precision import Feeds
from pixelrt_export.rounding import round_explicitly

LARGE_DIFFERENCE: dict[PrecisionType, float] = {"fp32": 1e-4, "fp16": 0.02, "bf16": 0.16}
"""Relative difference from which a layer counts as different: 40 roundings of the type in a row."""
EXPORT_DIFFERENCE = 1e-3
"""Relative difference that PyTorch and its own FP32 ONNX may have."""
EXPORT_SHARE = 0.5
"""Share of the whole difference from which the FP32 ONNX is the cause, and not the precision."""
_TENSORS_PER_RUN = 16


@dataclass(frozen=True, slots=True)
class Difference:
    """The first layer that differs much, or the one that differs most."""

    layer: str
    op: str
    relative: float
    """Root mean square of the difference over that of the FP32 values; infinite where it is not finite."""
    large: bool
    """Whether it is above `LARGE_DIFFERENCE`."""


def relative_difference(expected: NDArray[np.float32], found: NDArray[np.float32]) -> float:
    """Root mean square of the difference, over that of what was expected."""
    wide = expected.astype(np.float64)
    error = float(np.sqrt(np.mean((found.astype(np.float64) - wide) ** 2)))
    size = float(np.sqrt(np.mean(wide**2)))
    if not np.isfinite(error):
        return float("inf")
    return error / size if size > 0 else (0.0 if error == 0 else float("inf"))


def explain(
    original: Mapping[str, NDArray[np.float32]],
    plain: ModelProto,
    typed: ModelProto,
    feeds: Feeds,
    requested: PrecisionType,
) -> str:
    """Say where the difference comes from, in one sentence.

    Args:
        original: What the original network makes of `feeds`: head name to raw output.
        plain: The FP32 ONNX of the network.
        typed: The network in its precision.
        feeds: Of the bare network, by the name of the input; batch first.
        requested: The precision of `typed`.
    """
    rounded, _ = round_explicitly(typed)
    for head, expected in original.items():
        relative, whole = (
            relative_difference(expected, *_run(model, [f"head_{head}"], feeds).values())
            for model in (plain, rounded)
        )
        if relative > EXPORT_DIFFERENCE and relative >= EXPORT_SHARE * whole:
            return (
                f"the FP32 ONNX itself differs from the original at the output of head {head!r} "
                f"(relative difference {relative:.2g}): the conversion to ONNX is wrong, not the precision"
            )
    difference = first_difference(plain, typed, feeds, requested)
    if difference is None:
        return "no layer of the network differs: the difference arises in the backend or around the network"
    where = f"{difference.layer!r} ({difference.op}), relative difference {difference.relative:.2g}"
    if difference.large:
        return f"first differing layer: {where}"
    return f"no single layer differs much, the differences add up; the largest is at {where}"


def first_difference(
    plain: ModelProto, typed: ModelProto, feeds: Feeds, requested: PrecisionType
) -> Difference | None:
    """Compare the activations of both networks, layer by layer, in ONNX Runtime.

    Returns:
        The first layer above `LARGE_DIFFERENCE`, else the one that differs most, else None.
    """
    plain, _ = constants_to_initializers(plain)
    rounded, _ = round_explicitly(typed)
    most: Difference | None = None
    for node, expected, found in _pairs(plain, rounded, feeds):
        relative = relative_difference(expected, found)
        large = relative > LARGE_DIFFERENCE[requested]
        if relative > (most.relative if most else 0.0):
            most = Difference(node.name or node.output[0], node.op_type, relative, large)
        if large:
            return most
    return most


def _pairs(
    plain: ModelProto, typed: ModelProto, feeds: Feeds
) -> Iterator[tuple[NodeProto, NDArray[np.float32], NDArray[np.float32]]]:
    """Layers in their order, with the values that both networks give them."""
    floats = [
        {name for name, kind in value_types(checked(model)).items() if kind.elem_type == TensorProto.FLOAT}
        for model in (plain, typed)
    ]
    written = {name for node in typed.graph.node for name in node.output}
    shared = [
        (node, name)
        for node in plain.graph.node
        for name in node.output
        if name in written and all(name in known for known in floats)
    ]
    for start in range(0, len(shared), _TENSORS_PER_RUN):
        part = shared[start : start + _TENSORS_PER_RUN]
        names = [name for _, name in part]
        expected, found = _run(plain, names, feeds), _run(typed, names, feeds)
        for node, name in part:
            yield node, expected[name], found[name]


def _run(model: ModelProto, tensors: Sequence[str], feeds: Feeds) -> dict[str, NDArray[np.float32]]:
    """Values of any tensors of a network, unoptimised, so that each is what its layer gave."""
    runtime = require("onnxruntime", "export", "comparing layers")
    probe = copy_of(model)
    known = {value.name: value for value in checked(model).graph.value_info}
    outputs = {value.name for value in probe.graph.output}
    probe.graph.output.extend(known[name] for name in tensors if name not in outputs)
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = runtime.InferenceSession(probe.SerializeToString(), options, providers=["CPUExecutionProvider"])
    values = session.run(list(tensors), dict(feeds))
    return {name: np.asarray(value, np.float32) for name, value in zip(tensors, values, strict=True)}
