"""Parses ONNX with TensorRT: what it refuses, node by node, and what goes in and out."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pixelrt.errors import BuildError
from pixelrt.manifest import Tensor
from pixelrt.trt.library import Library, explain, tidy

DTYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "BF16": "bfloat16",
    "INT8": "int8",
    "INT32": "int32",
    "INT64": "int64",
    "UINT8": "uint8",
    "BOOL": "bool",
}
_MOST_SHOWN = 20


@dataclass(frozen=True, slots=True)
class NodeProblem:
    """A node of the ONNX that TensorRT refuses."""

    index: int
    """Position in the graph; -1 where the problem is not that of a node."""
    name: str
    operator: str
    code: str
    """TensorRT's name for the kind of problem: UNSUPPORTED_NODE, INVALID_NODE, ..."""
    reason: str

    def __str__(self) -> str:
        if self.index < 0:
            return self.reason
        return f"node {self.index} {self.name!r} ({self.operator}): {self.reason}"


@dataclass(frozen=True, slots=True)
class Parsed:
    """A network, and the parser that owns its weights: both must live until the engine is built."""

    builder: Any
    network: Any
    parser: Any


def parse(library: Library, content: bytes) -> tuple[Parsed, tuple[NodeProblem, ...]]:
    """Parse ONNX into a strongly typed network.

    Returns:
        The network, and what TensorRT refuses of it; with any refusal the network is of no use.

    Raises:
        BuildError: If TensorRT could not start at all.
    """
    trt = library.trt
    library.take_problems()
    builder = library.make(trt.Builder, library.logger)
    if hasattr(trt, "init_libnvinfer_plugins"):
        library.check(trt.init_libnvinfer_plugins(library.logger, ""), "to register its own plugins")
    network = library.check(builder.create_network(library.creation_flags()), "a strongly typed network")
    parser = library.make(trt.OnnxParser, network, library.logger)
    accepted = parser.parse(content)
    problems = _problems(parser)
    if not accepted and not problems:
        problems = (_whole("UNKNOWN", explain(library.take_problems())),)
    if accepted and not (network.num_inputs and network.num_outputs):
        problems = (_whole("EMPTY", "it has no input or no output; an ONNX file was expected"),)
    return Parsed(builder, network, parser), problems


def _whole(code: str, reason: str) -> NodeProblem:
    return NodeProblem(-1, "", "", code, reason)


def _problems(parser: Any) -> tuple[NodeProblem, ...]:
    return tuple(_problem(parser.get_error(index)) for index in range(parser.num_errors))


def _problem(error: Any) -> NodeProblem:
    code = error.code().name
    operator = error.node_operator()
    lines = [line for line in error.desc().splitlines() if not line.startswith("Invalid Node - ")]
    if code == "MODEL_DESERIALIZE_FAILED":
        reason = "it is cut short, or no ONNX file"
    elif lines == ["false"]:
        reason = f"the operator {operator} is not supported"
    elif any("Plugin not found" in line for line in lines):
        reason = f"the operator {operator} is unknown, and there is no plugin of that name"
    else:
        reason = tidy(explain(lines))
    inside = "".join(f", in the function {name}" for name in error.local_function_stack())
    return NodeProblem(error.node(), error.node_name(), operator, code, reason + inside)


def refusal(library: Library, problems: Sequence[NodeProblem]) -> BuildError:
    """The error that lists what TensorRT refuses."""
    return _refusal(library, "parse the ONNX", problems)


def refusal_of(library: Library, parser: Any, what: str) -> BuildError:
    """The error for something else that a parser of TensorRT refused."""
    problems = _problems(parser) or (_whole("UNKNOWN", explain(library.take_problems())),)
    return _refusal(library, what, problems)


def _refusal(library: Library, what: str, problems: Sequence[NodeProblem]) -> BuildError:
    shown = "".join(f"\n  {problem}" for problem in problems[:_MOST_SHOWN])
    more = f"\n  and {len(problems) - _MOST_SHOWN} more" if len(problems) > _MOST_SHOWN else ""
    return BuildError(f"{library.title} cannot {what}:{shown}{more}")


def inputs_and_outputs(network: Any) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Names, types and shapes as TensorRT understood them; axes that have no name are `?`."""
    inputs = (network.get_input(index) for index in range(network.num_inputs))
    outputs = (network.get_output(index) for index in range(network.num_outputs))
    return tuple(map(_tensor, inputs)), tuple(map(_tensor, outputs))


def _tensor(tensor: Any) -> Tensor:
    shape = tuple(
        size if size >= 0 else (tensor.get_dimension_name(axis) or "?")
        for axis, size in enumerate(tensor.shape)
    )
    return Tensor(name=tensor.name, dtype=dtype_name(tensor.dtype), shape=shape)


def dtype_name(dtype: Any) -> str:
    """NumPy's name for a `DataType` of TensorRT."""
    kind = str(dtype.name)
    return DTYPES.get(kind, kind.lower())


def differences(expected: Sequence[Tensor], found: Sequence[Tensor]) -> list[str]:
    """Where tensors of the network are not what a manifest says; empty if they are.

    A size that TensorRT does not know before it runs fits every number.
    """
    known = {tensor.name: tensor for tensor in found}
    told = [f"no {tensor.name!r}" for tensor in expected if tensor.name not in known]
    told += [f"an unexpected {name!r}" for name in known if name not in {tensor.name for tensor in expected}]
    for tensor in expected:
        other = known.get(tensor.name, tensor)
        if tensor.dtype != other.dtype or not _same_shape(tensor, other):
            told.append(
                f"{tensor.name!r} is {other.dtype}{list(other.shape)}, {tensor.dtype}{list(tensor.shape)} "
                "was expected"
            )
    return told


def _same_shape(expected: Tensor, found: Tensor) -> bool:
    return len(expected.shape) == len(found.shape) and all(
        isinstance(there, str) or here == there
        for here, there in zip(expected.shape, found.shape, strict=True)
    )


def named_axes(found: Sequence[Tensor], expected: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The tensors that TensorRT found, with the manifest's names for axes that have none."""
    shapes = {tensor.name: tensor.shape for tensor in expected}
    return tuple(
        dataclasses.replace(tensor, shape=_filled(tensor.shape, shapes.get(tensor.name, ())))
        for tensor in found
    )


def _filled(shape: tuple[int | str, ...], names: tuple[int | str, ...]) -> tuple[int | str, ...]:
    if len(shape) != len(names):
        return shape
    return tuple(name if size == "?" else size for size, name in zip(shape, names, strict=True))
