"""Networks that are ONNX already: renamed, fixed to the recipe's size, and checked."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.inliner
import torch
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, ValueInfoProto, helper
from torch import Tensor

from pixelrt.dependency import require
from pixelrt.errors import CheckpointError, ExportError
from pixelrt.file_kind import FileKind
from pixelrt.manifest import NoiseInfo
from pixelrt.strict import suggestion
from pixelrt_export.checkpoint import refuse_what_is_no_model
from pixelrt_export.graph import copy_of, drop_unused, opset_of, rename_tensors, value_types
from pixelrt_export.inputs import IMAGE, NetworkInput, NetworkSpec, Parameter, Parameters, bind, check_size
from pixelrt_export.instance_norm import expand_group_norms
from pixelrt_export.noise import Noise
from pixelrt_export.onnx_randomness import random_to_inputs
from pixelrt_export.onnx_tidy import BATCH
from pixelrt_export.outputs import HeadOutput
from pixelrt_export.quiet import essential
from pixelrt_export.torch_onnx import finished
from pixelrt_export.trial import Runner, outputs_per_head, samples, try_out

_FROM_TORCH = (
    "is a PyTorch file, ONNX was expected; for weights use entry and checkpoint in [model], for TorchScript "
    "torchscript, for a .pt2 exported"
)
_OTHERS = {
    FileKind.PICKLE: _FROM_TORCH,
    FileKind.TORCH_ARCHIVE: _FROM_TORCH,
    FileKind.ZIP: "is a zip archive, ONNX was expected; unpack it and name the .onnx file in it",
    FileKind.SAFETENSORS: "is safetensors, weights alone; use entry and checkpoint in [model]",
}


@dataclass(slots=True)
class OnnxNetwork:
    """An ONNX file. ONNX Runtime stands in for the original framework."""

    model: ModelProto
    description: str
    checkpoint_sha256: str
    spec: NetworkSpec | None = None
    """That of the last `to_onnx`."""
    _noise: tuple[Noise, ...] = field(default=(), init=False)
    _run: Runner | None = field(default=None, init=False, repr=False)

    @classmethod
    def open(cls, path: Path) -> OnnxNetwork:
        """Read an ONNX file.

        Raises:
            CheckpointError: If the file is missing, damaged or something else.
            ExportError: If it is in half precision, or its operator set is too old.
        """
        kind = refuse_what_is_no_model(path)
        if kind in _OTHERS:
            raise CheckpointError(f"{path} {_OTHERS[kind]}")
        try:
            model = onnx.load(path)
        except (DecodeError, ValueError) as problem:
            raise CheckpointError(
                f"{path} is no readable ONNX file ({essential(problem)}); it was cut short or is something "
                "else: copy it again"
            ) from problem
        except (OSError, onnx.checker.ValidationError) as problem:
            raise CheckpointError(
                f"{path} keeps its weights in another file that cannot be read ({essential(problem)}); "
                "copy that file beside it"
            ) from problem
        if not model.graph.node or not model.graph.output:
            raise CheckpointError(f"{path} holds no network; it was cut short or is something else")
        opset_of(model)
        model = onnx.inliner.inline_local_functions(model)
        _refuse_half(model, path.name)
        return cls(model, path.name, hashlib.sha256(path.read_bytes()).hexdigest())

    @property
    def noise(self) -> tuple[NoiseInfo, ...]:
        """See `Network.noise`."""
        return tuple(one.info for one in self._noise)

    def to_onnx(self, spec: NetworkSpec) -> ModelProto:
        """See `Network.to_onnx`.

        Raises:
            ExportError: If inputs, sizes, batch or outputs do not fit.
        """
        fed = _fed(self.model, spec, self.description)
        wanted = {head.name: _output_of(self.model, head, self.description) for head in spec.heads}
        model = _with_batch(self.model, BATCH)
        noise: dict[str, Noise] = {}
        if spec.task == "generation":
            model, noise = random_to_inputs(model, spec, self.description, partial(_shapes, fed))
        fed |= {given: one.input for given, one in noise.items()}
        inputs = (*spec.inputs, *(one.input for one in noise.values()))
        run = _runner(model, fed, list(wanted.values()))
        found = try_out(run, inputs, spec, self.description)
        fixed = _fixed(_with_batch(model, BATCH if found.dynamic_batch else 1), fed)
        fixed, _ = expand_group_norms(fixed)
        self.spec, self._noise, self._run = spec, tuple(noise.values()), run
        named = _named(fixed, {name: one.name for name, one in fed.items()}, wanted)
        return finished(_with_shapes(_in_order(named, inputs), self.description))

    def reference(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        """See `Network.reference`."""
        if self.spec is None:
            return outputs_per_head(None, feeds, (), ())
        inputs = (*self.spec.inputs, *(one.input for one in self._noise))
        return outputs_per_head(self._run, feeds, [head.name for head in self.spec.heads], inputs)


# --- what came -----------------------------------------------------------------------------------


def _inputs_of(model: ModelProto) -> list[ValueInfoProto]:
    constants = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in constants]


def _refuse_half(model: ModelProto, name: str) -> None:
    half = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
    found = [tensor.name for tensor in model.graph.initializer if tensor.data_type in half]
    if found:
        raise ExportError(
            f"{name} holds {len(found)} half-precision tensors ({found[0]}, ...), FP32 was expected; export "
            "it in FP32: PixelRT chooses the types itself, by measured ranges"
        )


def _dims(value: ValueInfoProto) -> list[int | str]:
    return [
        dim.dim_value if dim.HasField("dim_value") else dim.dim_param or "?"
        for dim in value.type.tensor_type.shape.dim
    ]


# --- what is wanted ------------------------------------------------------------------------------


def _fed(model: ModelProto, spec: NetworkSpec, name: str) -> dict[str, NetworkInput]:
    """What feeds each input of the graph.

    Raises:
        ExportError: If an input is fed by nothing, is not there, or has another type or shape.
    """
    values = _inputs_of(model)
    names = [value.name for value in values]
    if spec.task == "segmentation" and len(values) != 1:
        raise ExportError(
            f"{name} has {len(values)} inputs ({', '.join(names)}), one image was "
            "expected; export the network with the image as its only input"
        )
    parameters = Parameters(tuple(Parameter(one) for one in names), f"{name} ({', '.join(names)})")
    call = bind(spec.inputs, parameters)
    wanted = {one.name: one for one in spec.inputs}
    fed = {given: wanted[one] for given, one in zip(names, call.positional, strict=True)}
    for value in values:
        _check_input(value, fed[value.name], name)
    return fed


def _check_input(value: ValueInfoProto, one: NetworkInput, name: str) -> None:
    dims, kind = _dims(value), value.type.tensor_type.elem_type
    accepted = (TensorProto.FLOAT,) if one.dtype == "float32" else (TensorProto.INT64, TensorProto.INT32)
    if kind not in accepted:
        advice = (
            "export the network in FP32 and without its own preprocessing"
            if one.dtype == "float32"
            else 'or set form = "one_hot"'
        )
        raise ExportError(
            f"{name}: the input {value.name!r} is {TensorProto.DataType.Name(kind).lower()}, {one.dtype} was "
            f"expected; {advice}"
        )
    if one.name == IMAGE and len(dims) != 4:
        raise ExportError(
            f"{name}: the input {value.name!r} has the shape {dims}, [batch, channels, height, width] "
            "was expected"
        )
    if one.name == IMAGE and dims[1] != one.size[0] and dims[3] == one.size[0]:
        raise ExportError(
            f"{name}: the input {value.name!r} has the shape {dims}, channels last; [batch, channels, "
            "height, width] was expected: export it channels first (tf2onnx: --inputs-as-nchw)"
        )
    check_size(one, [size if isinstance(size, int) else None for size in dims[1:]], name)


def _with_batch(model: ModelProto, batch: int | str) -> ModelProto:
    """The model with another batch, and nothing said about the shapes that follow from it."""
    changed = copy_of(model)
    for value in _inputs_of(changed):
        first = value.type.tensor_type.shape.dim[0]
        first.Clear()
        if isinstance(batch, int):
            first.dim_value = batch
        else:
            first.dim_param = batch
    for output in changed.graph.output:
        output.type.tensor_type.ClearField("shape")
    del changed.graph.value_info[:]
    return changed


def _fixed(model: ModelProto, fed: Mapping[str, NetworkInput]) -> ModelProto:
    """The model with all sizes but the batch fixed."""
    fixed = copy_of(model)
    for value in _inputs_of(fixed):
        for axis, size in enumerate(fed[value.name].size, start=1):
            value.type.tensor_type.shape.dim[axis].dim_value = size
    return fixed


def _named(model: ModelProto, inputs: Mapping[str, str], wanted: Mapping[str, str]) -> ModelProto:
    """Give the inputs and the heads' outputs their names, and drop the other outputs.

    Args:
        model: The network.
        inputs: From the names of its inputs to ours.
        wanted: From the names of heads to those of its outputs.
    """
    ours = {*inputs.values(), *(f"head_{head}" for head in wanted)}
    aside = {tensor: f"network/{tensor}" for tensor in (*ours, *inputs)}  # frees every name of ours
    named, _ = rename_tensors(model, aside)
    moved = {aside[theirs]: own for theirs, own in inputs.items()}
    named, _ = rename_tensors(named, moved)
    del named.graph.output[:]
    for head, output in wanted.items():
        inner = aside.get(output, output)
        node = helper.make_node(
            "Identity", [moved.get(inner, inner)], [f"head_{head}"], name=f"head_{head}/identity"
        )
        named.graph.node.append(node)
        named.graph.output.append(helper.make_tensor_value_info(f"head_{head}", TensorProto.FLOAT, None))
    pruned, _ = drop_unused(named)
    return pruned


def _in_order(model: ModelProto, inputs: Sequence[NetworkInput]) -> ModelProto:
    """The inputs in their order, ids as int64."""
    ordered = copy_of(model)
    values = {value.name: value for value in _inputs_of(ordered)}
    del ordered.graph.input[:]
    for one in inputs:
        value = values[one.name]
        if one.dtype == "int64" and value.type.tensor_type.elem_type == TensorProto.INT32:
            ordered, _ = rename_tensors(ordered, {one.name: f"{one.name}/int32"})
            cast = helper.make_node(
                "Cast", [one.name], [f"{one.name}/int32"], name=f"{one.name}/cast", to=TensorProto.INT32
            )
            ordered.graph.node.insert(0, cast)
            value.type.tensor_type.elem_type = TensorProto.INT64
        ordered.graph.input.append(value)
    return ordered


def _with_shapes(model: ModelProto, name: str) -> ModelProto:
    """The model with the shapes of its outputs, inferred."""
    shaped = copy_of(model)
    try:
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    except onnx.shape_inference.InferenceError as problem:
        raise ExportError(f"{name}: the shapes do not fit together: {essential(problem)}") from problem
    types = value_types(inferred)
    for output in shaped.graph.output:
        dims = types[output.name].dims
        if dims is None or len(dims) != 4:
            raise ExportError(
                f"{name}: the output for {output.name!r} has the shape {dims}, [batch, classes, height, "
                "width] was expected"
            )
        output.CopyFrom(helper.make_tensor_value_info(output.name, TensorProto.FLOAT, dims))
    return shaped


def _output_of(model: ModelProto, head: HeadOutput, name: str) -> str:
    outputs: list[str] = [value.name for value in model.graph.output]
    if isinstance(head.output, str):
        if head.output in outputs:
            return head.output
        if not head.output.isdecimal():
            raise ExportError(
                f"head {head.name!r} asks for output {head.output!r}{suggestion(head.output, outputs)}, and "
                f"{name} has {outputs}"
            )
    if head.output is not None:
        index = int(head.output)
        if not -len(outputs) <= index < len(outputs):
            raise ExportError(f"head {head.name!r} asks for output {index}, and {name} has {outputs}")
        return outputs[index]
    maps: list[str] = [
        value.name
        for value in model.graph.output
        if value.type.tensor_type.elem_type == TensorProto.FLOAT and len(_dims(value)) in (0, 4)
    ]
    if len(maps) != 1:
        described = "; ".join(f"{value.name!r} {_dims(value)}" for value in model.graph.output)
        example = (maps or outputs)[0]
        raise ExportError(
            f"head {head.name!r} does not say which output it is made of, and {name} has {described}; write "
            f'one of them in [[head]], as in: output = "{example}"'
        )
    return maps[0]


def _shapes(
    fed: Mapping[str, NetworkInput], model: ModelProto, names: list[str], batch: int
) -> list[tuple[int, ...]] | None:
    """The shapes of tensors for a batch; None if the network takes none."""
    run = _runner(model, fed, names)
    feeds = {name: value[:batch] for name, value in samples(list(fed.values())).items()}
    try:
        return [tuple(tensor.shape) for tensor in run(feeds)]
    except Exception:  # noqa: BLE001 - any failure of a foreign network answers the question
        return None


def _runner(model: ModelProto, fed: Mapping[str, NetworkInput], names: list[str]) -> Runner:
    """The network in ONNX Runtime as a function from the inputs to the named outputs."""
    runtime = require("onnxruntime", "export", "running the ONNX network")
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = runtime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as problem:
        raise ExportError(
            f"ONNX Runtime does not load the network: {essential(problem)}; check it with onnx.checker"
        ) from problem
    integers = {value.name for value in session.get_inputs() if value.type == "tensor(int32)"}

    def run(feeds: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        given = {theirs: feeds[one.name].numpy() for theirs, one in fed.items()}
        given |= {theirs: given[theirs].astype(np.int32) for theirs in integers}
        return tuple(torch.from_numpy(value) for value in session.run(names, given))

    return run
