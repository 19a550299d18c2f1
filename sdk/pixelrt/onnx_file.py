"""Reads what an ONNX file says about itself, with whichever library for running it is installed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from pixelrt.dependency import require
from pixelrt.errors import InputError, MissingDependency

_PURPOSE = "reading an ONNX file"


@dataclass(frozen=True, slots=True)
class OnnxTensor:
    """An input or output of the graph."""

    name: str
    dtype: str
    """NumPy's name where there is one: float32, uint8, bfloat16, ..."""
    shape: tuple[int | str, ...]
    """Numbers, and names (or `?`) where the size is dynamic."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxFacts:
    """What was found."""

    inputs: tuple[OnnxTensor, ...]
    outputs: tuple[OnnxTensor, ...]
    producer: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    read_with: str
    """Library and version."""
    refused_by: dict[str, str] = field(default_factory=dict)
    """Libraries that were tried before, and what they said."""


def read_onnx(path: Path) -> OnnxFacts:
    """Read inputs, outputs and metadata.

    Raises:
        MissingDependency: If neither ONNX Runtime nor OpenVINO is installed.
        InputError: If no installed library can read the file.
    """
    refused: dict[str, str] = {}
    for name, extra, read in _READERS:
        try:
            library = require(name, extra, _PURPOSE)
        except MissingDependency:
            continue
        try:
            return read(library, path, refused)
        except _RefusedError as problem:
            refused[name] = str(problem)
            if "INVALID_PROTOBUF" in refused[name]:
                break
    if not refused:
        raise MissingDependency(
            f"{_PURPOSE} needs ONNX Runtime or OpenVINO, and neither is installed; "
            "install one with: pip install 'pixelrt[onnxruntime]' or 'pixelrt[cpu]'"
        )
    reasons = "; ".join(f"{name}: {reason}" for name, reason in refused.items())
    raise InputError(f"{path} cannot be read as an ONNX file ({reasons}); export or copy it again")


class _RefusedError(Exception):
    """A library cannot read the file."""


def _with_onnxruntime(library: ModuleType, path: Path, refused: dict[str, str]) -> OnnxFacts:
    options = library.SessionOptions()
    options.graph_optimization_level = library.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    try:
        session = library.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as problem:  # its errors have no base class of their own
        raise _RefusedError(_first_line(problem)) from problem
    about = session.get_modelmeta()
    return OnnxFacts(
        inputs=tuple(map(_onnxruntime_tensor, session.get_inputs())),
        outputs=tuple(map(_onnxruntime_tensor, session.get_outputs())),
        producer=f"{about.producer_name} {about.description}".strip(),
        metadata=dict(about.custom_metadata_map),
        read_with=f"onnxruntime {library.__version__}",
        refused_by=refused,
    )


def _onnxruntime_tensor(tensor: Any) -> OnnxTensor:
    dtype = tensor.type.removeprefix("tensor(").removesuffix(")")
    named = {"float": "float32", "double": "float64"}.get(dtype, dtype)
    return OnnxTensor(tensor.name, named, tuple("?" if size is None else size for size in tensor.shape))


def _with_openvino(library: ModuleType, path: Path, refused: dict[str, str]) -> OnnxFacts:
    try:
        model = library.Core().read_model(str(path))
    except RuntimeError as problem:
        raise _RefusedError(_first_line(problem)) from problem
    return OnnxFacts(
        inputs=tuple(map(_openvino_tensor, model.inputs)),
        outputs=tuple(map(_openvino_tensor, model.outputs)),
        read_with=f"openvino {library.__version__.split('-')[0]}",
        refused_by=refused,
    )


def _openvino_tensor(port: Any) -> OnnxTensor:
    dtype = port.get_element_type()
    named = "bfloat16" if dtype.get_type_name() == "bf16" else str(dtype.to_dtype())
    sizes = ("?" if size.is_dynamic else size.get_length() for size in port.partial_shape)
    return OnnxTensor(port.get_any_name(), named, tuple(sizes))


def _first_line(problem: Exception) -> str:
    """What a library said, without where in its sources it said so."""
    lines = [line.strip() for line in str(problem).splitlines()]
    return next((line for line in lines if line and not line.startswith("Exception from")), "no reason given")


_READERS: tuple[tuple[str, str, Callable[[ModuleType, Path, dict[str, str]], OnnxFacts]], ...] = (
    ("onnxruntime", "onnxruntime", _with_onnxruntime),  # it knows the names of dynamic axes
    ("openvino", "cpu", _with_openvino),  # it reads bfloat16 graphs, which the other may refuse
)
