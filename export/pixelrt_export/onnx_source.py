"""Networks that are ONNX already: renamed, fixed to the recipe's size, and checked."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

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
from pixelrt.strict import suggestion
from pixelrt_export.checkpoint import refuse_what_is_no_model
from pixelrt_export.graph import copy_of, drop_unused, opset_of, rename_tensors, value_types
from pixelrt_export.onnx_tidy import BATCH
from pixelrt_export.outputs import HeadOutput
from pixelrt_export.quiet import essential
from pixelrt_export.torch_onnx import IMAGE, NetworkSpec, finished
from pixelrt_export.trial import Runner, outputs_per_head, try_out

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
    """An ONNX file with one image as input. ONNX Runtime stands in for the original framework."""

    model: ModelProto
    description: str
    checkpoint_sha256: str
    heads: tuple[HeadOutput, ...] = ()
    """Those of the last `to_onnx`."""
    _run: Runner | None = field(default=None, init=False, repr=False)

    @classmethod
    def open(cls, path: Path) -> OnnxNetwork:
        """Read an ONNX file.

        Raises:
            CheckpointError: If the file is missing, damaged or something else.
            ExportError: If it is no network that takes one FP32 image.
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
        _check_image(_image_of(model, path.name), path.name)
        _refuse_half(model, path.name)
        return cls(model, path.name, hashlib.sha256(path.read_bytes()).hexdigest())

    def to_onnx(self, spec: NetworkSpec) -> ModelProto:
        """See `Network.to_onnx`.

        Raises:
            ExportError: If size, channels, batch or outputs do not fit.
        """
        _check_shape(self.model, spec, self.description)
        wanted = {head.name: _output_of(self.model, head, self.description) for head in spec.heads}
        run = _runner(_with_batch(self.model, BATCH), list(wanted.values()))
        found = try_out(run, spec, self.description)
        fixed = _fixed(_with_batch(self.model, BATCH if found.dynamic_batch else 1), spec, self.description)
        self.heads, self._run = spec.heads, run
        return finished(_with_shapes(_named(fixed, wanted, self.description), self.description))

    def reference(self, images: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """See `Network.reference`."""
        return outputs_per_head(self._run, images, tuple(head.name for head in self.heads))


# --- what came -----------------------------------------------------------------------------------


def _image_of(model: ModelProto, name: str) -> ValueInfoProto:
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs: list[ValueInfoProto] = [value for value in model.graph.input if value.name not in constants]
    if len(inputs) != 1:
        raise ExportError(
            f"{name} has {len(inputs)} inputs ({', '.join(value.name for value in inputs)}), one image was "
            "expected; export the network with the image as its only input"
        )
    return inputs[0]


def _check_image(image: ValueInfoProto, name: str) -> None:
    dims = _dims(image)
    kind = image.type.tensor_type.elem_type
    if kind != TensorProto.FLOAT:
        raise ExportError(
            f"{name}: the input {image.name!r} is {TensorProto.DataType.Name(kind).lower()}, float32 was "
            "expected; export the network in FP32 and without its own preprocessing"
        )
    if len(dims) != 4:
        raise ExportError(
            f"{name}: the input {image.name!r} has the shape {dims}, [batch, channels, height, width] "
            "was expected"
        )


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


def _check_shape(model: ModelProto, spec: NetworkSpec, name: str) -> None:
    image = _image_of(model, name)
    dims = _dims(image)
    if dims[1] != spec.channels:
        if dims[3] == spec.channels:
            raise ExportError(
                f"{name}: the input {image.name!r} has the shape {dims}, channels last; [batch, channels, "
                "height, width] was expected: export it channels first (tf2onnx: --inputs-as-nchw)"
            )
        if isinstance(dims[1], int):
            raise ExportError(
                f"{name} takes {dims[1]} channels, and mean and std are given for {spec.channels}; give one "
                "value of each per channel"
            )
    for found, wanted in zip(dims[2:], spec.size, strict=True):
        if isinstance(found, int) and found != wanted:
            raise ExportError(
                f"{name} was exported for {dims[2]}x{dims[3]} (H x W), the recipe wants "
                f"{spec.size[0]}x{spec.size[1]}; set size = [{dims[2]}, {dims[3]}], or export it again"
            )


def _with_batch(model: ModelProto, batch: int | str) -> ModelProto:
    """The model with another batch, and nothing said about the shapes that follow from it."""
    changed = copy_of(model)
    constants = {tensor.name for tensor in changed.graph.initializer}
    for value in changed.graph.input:
        if value.name not in constants:
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


def _fixed(model: ModelProto, spec: NetworkSpec, name: str) -> ModelProto:
    """The model with channels, height and width fixed."""
    fixed = copy_of(model)
    shape = _image_of(fixed, name).type.tensor_type.shape
    for axis, size in enumerate((spec.channels, *spec.size), start=1):
        shape.dim[axis].dim_value = size
    return fixed


def _named(model: ModelProto, wanted: dict[str, str], name: str) -> ModelProto:
    """Give the input and the heads' outputs their names, and drop the other outputs."""
    image = _image_of(model, name).name
    ours = {IMAGE, *(f"head_{head}" for head in wanted)}
    clashes = {tensor: f"network/{tensor}" for tensor in ours - {image}}
    named, _ = rename_tensors(model, clashes)
    named, _ = rename_tensors(named, {image: IMAGE})
    del named.graph.output[:]
    for head, output in wanted.items():
        inner = clashes.get(output, IMAGE if output == image else output)
        named.graph.node.append(
            helper.make_node("Identity", [inner], [f"head_{head}"], name=f"head_{head}/identity")
        )
        named.graph.output.append(helper.make_tensor_value_info(f"head_{head}", TensorProto.FLOAT, None))
    pruned, _ = drop_unused(named)
    return pruned


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


def _runner(model: ModelProto, names: list[str]) -> Runner:
    """The network in ONNX Runtime as a function from an image to the named outputs."""
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
    image = session.get_inputs()[0].name

    def run(tensor: Tensor) -> tuple[Tensor, ...]:
        return tuple(torch.from_numpy(value) for value in session.run(names, {image: tensor.numpy()}))

    return run
