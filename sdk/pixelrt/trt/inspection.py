"""What an engine says of itself once TensorRT has loaded it, which needs a GPU. In the child process only."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from pixelrt.manifest import Tensor
from pixelrt.trt.library import Library
from pixelrt.trt.network import dtype_name
from pixelrt.trt.profiles import KINDS, ShapeRange
from pixelrt.trt.protocol import EngineFacts

_TYPES = {
    "float": "fp32",
    "fp32": "fp32",
    "half": "fp16",
    "fp16": "fp16",
    "bf16": "bf16",
    "bfloat16": "bf16",
    "fp8": "fp8",
    "fp4": "fp4",
    "int4": "int4",
    "int8": "int8",
    "uint8": "uint8",
    "int32": "int32",
    "int64": "int64",
    "bool": "bool",
}
_WORD = re.compile(r"[A-Za-z]+\d*")
_UNKNOWN = "unknown"
_ACCELERATOR, _COPY = "DLA", "Reformat"
"""TensorRT's `LayerType` for what runs on the accelerator, and for the copies that it puts in between."""


def describe(library: Library, engine: Any, *, accelerated: bool = False) -> EngineFacts:
    """Everything that `pixelrt inspect` and the manifest tell of a loaded engine.

    Args:
        library: The TensorRT that loaded it.
        engine: `ICudaEngine`.
        accelerated: Whether it was built for a deep learning accelerator, whatever came of that.

    Raises:
        BuildError: If TensorRT refuses to inspect it.
    """
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    inputs = [name for name in names if engine.get_tensor_mode(name) == library.trt.TensorIOMode.INPUT]
    layers, silence = _layers(library, engine)
    on_accelerator = sum(layer.get("LayerType") == _ACCELERATOR for layer in layers)
    return EngineFacts(
        inputs=tuple(_tensor(engine, name) for name in names if name in inputs),
        outputs=tuple(_tensor(engine, name) for name in names if name not in inputs),
        profiles=tuple(
            {name: _range(engine, name, index) for name in inputs}
            for index in range(engine.num_optimization_profiles)
        ),
        num_layers=engine.num_layers,
        layers=_count(layers),
        silence=silence,
        on_accelerator=on_accelerator,
        fallback=_fallback(layers) if on_accelerator or accelerated else (),
        device_memory_bytes=_device_memory_bytes(engine),
        num_aux_streams=engine.num_aux_streams,
        refittable=engine.refittable,
        profiling_verbosity=engine.profiling_verbosity.name.lower(),
    )


def _tensor(engine: Any, name: str) -> Tensor:
    shape = tuple(size if size >= 0 else "?" for size in engine.get_tensor_shape(name))
    return Tensor(name=name, dtype=dtype_name(engine.get_tensor_dtype(name)), shape=shape)


def _range(engine: Any, name: str, profile: int) -> ShapeRange:
    shapes = [tuple(shape) for shape in engine.get_tensor_profile_shape(name, profile)]
    return ShapeRange(**dict(zip(KINDS, shapes, strict=True)))


def _device_memory_bytes(engine: Any) -> int:
    name = "device_memory_size_v2" if hasattr(type(engine), "device_memory_size_v2") else "device_memory_size"
    return int(getattr(engine, name))


def _layers(library: Library, engine: Any) -> tuple[list[dict[str, Any]], str]:
    """The layers as TensorRT's inspector tells them, or none and why."""
    inspector = library.check(engine.create_engine_inspector(), "to make its inspector")
    text = inspector.get_engine_information(library.trt.LayerInformationFormat.JSON)
    try:
        told = json.loads(text)["Layers"]
    except (ValueError, KeyError, TypeError) as problem:  # names of layers are not always escaped
        return [], f"TensorRT's list of its layers cannot be read ({problem})"
    if not told or not all(isinstance(layer, dict) for layer in told):
        return [], "it was built to keep the details of its layers to itself (--profilingVerbosity)"
    return told, ""


def _count(layers: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Number of layers per type of their first output, the most frequent first."""
    return dict(Counter(_type(layer) for layer in layers).most_common())


def _type(layer: Mapping[str, Any]) -> str:
    """`fp16` from `Half` or `Channel major FP16 format where channel % 8 == 0`."""
    outputs = layer.get("Outputs") or [{}]
    words = _WORD.findall(str(outputs[0].get("Format/Datatype", "")))
    return next((_TYPES[word.lower()] for word in words if word.lower() in _TYPES), _UNKNOWN)


def _fallback(layers: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """What does not run on the accelerator: the layers that the GPU was left with."""
    return tuple(
        str(layer.get("Name", "?")) for layer in layers if layer.get("LayerType") not in (_ACCELERATOR, _COPY)
    )
