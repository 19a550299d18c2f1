"""From a PyTorch module to FP32 ONNX of the bare network.

    copy (FP32, eval, CPU) -> trial in PyTorch -> torch.onnx -> batch norm folded, slimmed, checked

The caller's module is copied before anything else and never touched.
"""

from __future__ import annotations

import copy
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import onnx
import torch
from onnx import ModelProto
from torch import Tensor, nn

from pixelrt.errors import ExportError
from pixelrt_export.graph import checked
from pixelrt_export.onnx_tidy import named_batch, tidy
from pixelrt_export.outputs import HeadOutput, pick
from pixelrt_export.quiet import essential, quiet
from pixelrt_export.torchscript import heads_of
from pixelrt_export.trial import Runner, try_out

OPSET = 20
"""Operator set of the ONNX: the newest that TensorRT 10.3 reads whole."""
IMAGE = "image"

_WRAPPERS = {"DataParallel": "module", "DistributedDataParallel": "module", "OptimizedModule": "_orig_mod"}


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSpec:
    """What to export of a network."""

    size: tuple[int, int]
    """Height and width of the input."""
    channels: int
    heads: tuple[HeadOutput, ...]
    opset: int = OPSET
    max_batch: int = 4
    """Largest batch that will be used. With 1, the batch is fixed, which some networks demand."""


def copy_for_export(module: nn.Module) -> nn.Module:
    """An independent copy on the CPU, in FP32 and in eval mode; the module itself stays as it is.

    Tensors are converted while they are copied, those that are plain attributes too, so that a network on a
    GPU needs no second place there. DataParallel and torch.compile are taken off.

    Raises:
        ExportError: If the module has no weights yet (meta device, lazy layers) or cannot be copied.
    """
    module = unwrapped(module)
    memo: dict[int, Any] = {id(tensor): _plain(tensor) for tensor in _tensors_of(module)}
    try:
        copied = copy.deepcopy(module, memo)
    except Exception as problem:
        raise ExportError(
            f"{type(module).__name__} cannot be copied ({essential(problem)}); save its state dict, and "
            "export from a recipe with an entry point and that checkpoint"
        ) from problem
    return copied.eval().requires_grad_(False)


def unwrapped(module: nn.Module) -> nn.Module:
    """The module without DataParallel, DistributedDataParallel and torch.compile around it."""
    while (name := type(module).__name__) in _WRAPPERS:
        module = getattr(module, _WRAPPERS[name])
    return module


def _tensors_of(module: nn.Module) -> Iterator[Tensor]:
    for part in module.modules():
        yield from _tensors_in([value for name, value in vars(part).items() if name != "_modules"])


def _tensors_in(value: object) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        yield from _tensors_in(list(value.values()))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors_in(item)


def _plain(tensor: Tensor) -> Tensor:
    if tensor.is_meta or nn.parameter.is_lazy(tensor):
        raise ExportError(
            "the network has weights without values (meta device, or a lazy layer that never ran); "
            "load its checkpoint before the export"
        )
    plain = tensor.detach().to(
        "cpu", torch.float32 if tensor.is_floating_point() else tensor.dtype, copy=True
    )
    return nn.Parameter(plain, requires_grad=False) if isinstance(tensor, nn.Parameter) else plain


class HeadsOnly(nn.Module):
    """The network with one output per head, in the order of the heads.

    Args:
        network: Anything that can be called with the image.
        heads: Which outputs are wanted.
    """

    def __init__(self, network: nn.Module, heads: tuple[HeadOutput, ...]) -> None:
        super().__init__()
        self.network = network
        self.heads = heads
        self.training = False  # not eval(): a torch.export program refuses the call

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return float32[N, K, h, w] of each head, from float32[N, C, H, W]."""
        outputs = self.network(image)
        return tuple(pick(outputs, head).float() for head in self.heads)


def runner(network: nn.Module, heads: tuple[HeadOutput, ...]) -> Runner:
    """The network in PyTorch as a function from an image to the tensors of the heads."""
    heads_only = HeadsOnly(network, heads)

    def run(image: Tensor) -> tuple[Tensor, ...]:
        with torch.inference_mode(), quiet():
            return heads_only(image)  # type: ignore[no-any-return]

    return run


def module_to_onnx(network: nn.Module, spec: NetworkSpec, name: str) -> ModelProto:
    """Export a network by way of torch.export.

    Args:
        network: A copy made by `copy_for_export`, or a module that is FP32 and in eval mode.
        spec: What to export.
        name: What to call the network in messages.

    Returns:
        FP32 ONNX: `image` float32[batch, C, H, W] to `head_<name>` float32[batch, K, h, w]. Only the batch is
        dynamic, and it is fixed to 1 where `spec.max_batch` is 1.

    Raises:
        ExportError: If the network does not run at this size or cannot be expressed in ONNX; the message says
            which sizes would work, or gives PyTorch's reason.
    """
    found = try_out(runner(network, spec.heads), spec, name)
    heads_only = HeadsOnly(network, spec.heads)
    batch = {0: torch.export.Dim("batch")} if found.dynamic_batch else None
    example = torch.zeros(2 if found.dynamic_batch else 1, spec.channels, *spec.size)
    with quiet(), torch.no_grad():
        program = _captured(heads_only, example, batch, name, spec)
        try:
            exported = torch.onnx.export(program, (), dynamo=True, opset_version=spec.opset, **_options(spec))
        except Exception as problem:
            raise ExportError(
                f"torch.onnx cannot express {name}: {essential(problem)}; replace that operation in forward()"
            ) from problem
        assert exported is not None
        model = exported.model_proto
    return finished(model)


def script_to_onnx(network: nn.Module, spec: NetworkSpec, name: str) -> ModelProto:
    """Export TorchScript, by the exporter that was written for it.

    torch.export does not take TorchScript, and PyTorch's converter between the two knows no loops and takes
    bilinear resizing apart.

    Args:
        network: What `torch.jit.load` returned.
        spec: What to export.
        name: What to call the network in messages.

    Returns:
        As `module_to_onnx`.

    Raises:
        ExportError: As `module_to_onnx`.
    """
    found = try_out(runner(network, spec.heads), spec, name)
    example = torch.zeros(2 if found.dynamic_batch else 1, spec.channels, *spec.size)
    names = [IMAGE, *(f"head_{head.name}" for head in spec.heads)]
    axes = {tensor: {0: "batch"} for tensor in names} if found.dynamic_batch else None
    content = io.BytesIO()
    with quiet(), torch.no_grad():
        try:
            torch.onnx.export(
                heads_of(network, spec.heads, network(example)),
                (example,),
                content,  # type: ignore[arg-type]
                dynamo=False,
                dynamic_axes=axes,
                opset_version=spec.opset,
                **_options(spec),
            )
        except Exception as problem:
            raise ExportError(
                f"torch.onnx cannot express the TorchScript {name}: {essential(problem)}; export the module "
                "itself, or save it with torch.export.save"
            ) from problem
    return finished(onnx.load_from_string(content.getvalue()))


def finished(model: ModelProto) -> ModelProto:
    """Fold, slim, name and check a network whose inputs and outputs have their names already."""
    slim, _ = tidy(model)
    named, _ = named_batch(slim)
    return checked(named)


def _options(spec: NetworkSpec) -> dict[str, Any]:
    return {
        "input_names": [IMAGE],
        "output_names": [f"head_{head.name}" for head in spec.heads],
        "verbose": False,
        "external_data": False,
    }


def _captured(
    network: HeadsOnly, example: Tensor, batch: dict[int, Any] | None, name: str, spec: NetworkSpec
) -> torch.export.ExportedProgram:
    shapes = None if batch is None else (batch,)
    try:
        return torch.export.export(network, (example,), dynamic_shapes=shapes, strict=False)
    except ExportError:
        raise
    except Exception as problem:
        text = str(problem)
        if "data-dependent" in text or "GuardOnDataDependent" in type(problem).__name__:
            advice = "forward() decides by the values of a tensor; replace the if by torch.where"
        elif re.search(r"specialized it to be a constant|Constraints violated", text):
            advice = (
                f"forward() writes the batch size {example.shape[0]} into the network as a number; use "
                "image.shape[0] or -1 in reshape and view, or set batch = 1 in [input] (max_batch=1)"
            )
        else:
            advice = "torch.export must be able to follow forward(): tensors and plain Python only"
        raise ExportError(
            f"torch.export cannot follow {name}: {advice}. PyTorch says: {essential(problem)}"
        ) from problem
