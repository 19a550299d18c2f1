"""Types a network FP16 or BF16, and keeps FP32 where ranges or the kind of layer demand it.

The result is strongly typed: weights and activations carry their type, Cast nodes stand where it changes, and
TensorRT has nothing left to choose. The network's own inputs and outputs keep their types.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import onnx
import onnx.version_converter
from onnx import ModelProto, TensorProto

from pixelrt.errors import ExportError
from pixelrt.manifest import Island, Precision, PrecisionType
from pixelrt_export.graph import (
    ValueType,
    checked,
    constants_to_initializers,
    opset_of,
    refuse_control_flow,
    value_types,
)
from pixelrt_export.instance_norm import lift_epsilon
from pixelrt_export.precision.network import ELEM_TYPE, Feeds, Network
from pixelrt_export.precision.ranges import measure
from pixelrt_export.precision.retype import retype
from pixelrt_export.precision.rules import ACTIVATION_LIMIT, FP16_MAX, LayerPrecision, decide

__all__ = ["ACTIVATION_LIMIT", "FP16_MAX", "Feeds", "LayerPrecision", "PrecisionReport", "to_precision"]

BF16_OPSET = 22
"""First operator set in which Conv and the poolings may be BF16."""


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


def to_precision(
    model: ModelProto, calibration: Iterable[Feeds], requested: PrecisionType
) -> tuple[ModelProto, PrecisionReport]:
    """Type a network FP16 or BF16, with FP32 islands where they are needed.

    A layer stays FP32 if one of these holds: it normalises or sums many values (softmax, instance norm, a
    mean over 256 values or more); it belongs to a variance; a layer after it would enlarge its rounding, as a
    normalisation does where the mean is far above the deviation (`neighbours`); the largest |x| it reads or
    writes exceeds 16376, a quarter of FP16's range; the products that it adds up may exceed 65504; a constant
    of it exceeds 65504 or would lose its digits to FP16's subnormal numbers; the operator has no such type;
    or it is cheap and stands between FP32 layers. BF16 has FP32's range, so the rules of range do not apply
    to it; it raises the operator set to 22, the first in which a convolution may be BF16.

    Whatever the type, normalisations with an epsilon that TensorRT might raise are written anew
    (`instance_norm`).

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
    network = Network.of(plain, opset_of(plain))
    ranges = measure(plain, network, calibration)
    decided = decide(network, ranges, requested)
    typed, _ = retype(network, {index: layer.type for index, layer in decided.items()}, ELEM_TYPE[requested])
    num_casts = len(typed.graph.node) - len(plain.graph.node)
    typed, _ = lift_epsilon(typed)
    typed = checked(typed)
    layers = tuple(decided.values())
    report = PrecisionReport(
        requested=requested,
        layers=layers,
        counts=_count(typed, {layer.layer for layer in layers}),
        num_casts=num_casts,
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


def _count(model: ModelProto, layers: set[str]) -> dict[str, int]:
    """Layers per type as the ONNX has them: the type a layer writes, or reads where it writes no float."""
    types = value_types(model)
    names = {elem_type: name for name, elem_type in ELEM_TYPE.items()}
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
