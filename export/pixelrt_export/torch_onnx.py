"""From a PyTorch module to FP32 ONNX of the bare network.

    copy (FP32, eval, CPU) -> trial in PyTorch -> torch.onnx -> batch norm folded, slimmed, checked

The caller's module is copied before anything else and never touched.
"""

from __future__ import annotations

import copy
import io
import re
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from typing import Any

import onnx
import torch
from onnx import ModelProto
from torch import Tensor, nn

from pixelrt.errors import ExportError
from pixelrt_export.graph import checked
from pixelrt_export.inputs import Call, NetworkInput, NetworkSpec, batch_option
from pixelrt_export.noise import Draw, Noise, as_inputs
from pixelrt_export.onnx_tidy import named_batch, optimize, tidy
from pixelrt_export.outputs import pick
from pixelrt_export.quiet import essential, quiet
from pixelrt_export.randomness import distributions_unchecked, drawing, drawn_by
from pixelrt_export.torchscript import heads_of
from pixelrt_export.trial import samples, try_out

_WRAPPERS = {"DataParallel": "module", "DistributedDataParallel": "module", "OptimizedModule": "_orig_mod"}


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
    """The network as a function of named inputs, with one output per head, in the order of the heads.

    Args:
        network: Anything that can be called with tensors.
        spec: What is wanted of it.
        call: Which input goes to which parameter.
        name: What to call the network in messages.
    """

    def __init__(self, network: nn.Module, spec: NetworkSpec, call: Call, name: str) -> None:
        super().__init__()
        self.network = network
        self.spec = spec
        self.call = call
        self.name = name
        self.max_batch: int | None = None
        """The largest batch that a saved network takes; None for no limit."""
        self.must_drop = False
        """Whether its dropout was asked for."""
        self.noise: tuple[Noise, ...] = ()
        self._takes_noise = False
        self.training = False  # not eval(): a torch.export program refuses the call

    @property
    def inputs(self) -> tuple[NetworkInput, ...]:
        """In their order, noise last."""
        return (*self.spec.inputs, *(one.input for one in self.noise))

    def forward(self, *values: Tensor) -> tuple[Tensor, ...]:
        """Return float32[N, K, h, w] of each head, from the values of the inputs in their order."""
        count = len(self.spec.inputs)
        named = {one.name: value for one, value in zip(self.spec.inputs, values[:count], strict=True)}
        with drawing(self.noise, values[count:], self.name) if self._takes_noise else nullcontext():
            outputs = self.call(self.network, named)
        return tuple(pick(outputs, head, self.spec.task).float() for head in self.spec.heads)

    def take_noise(self) -> None:
        """Make inputs of the random numbers that the network draws.

        Raises:
            ExportError: If some cannot become an input.
        """
        two = samples(self.spec.inputs)
        one = self._draws({name: value[:1] for name, value in two.items()})
        if one:
            self.noise = as_inputs(one, self._draws(two), self.spec.max_batch, self.name)
        self._takes_noise = True

    def drawn(self) -> str:
        """The first random numbers that it draws, for messages; empty if that is not known."""
        feeds = {name: value[:1] for name, value in samples(self.spec.inputs).items()}
        try:
            draws = self._draws(feeds)
        except ExportError:
            return ""
        return f"{draws[0].what} ({draws[0].where})" if draws else ""

    def _draws(self, feeds: Mapping[str, Tensor]) -> tuple[Draw, ...] | None:
        """What is drawn for these feeds; None if it does not run on them, which the trial explains."""
        try:
            return drawn_by(lambda: self.run(feeds), self.name, must_drop=self.must_drop)
        except ExportError:
            raise
        except Exception:  # noqa: BLE001 - any failure of a foreign network answers the question
            return None

    def run(self, feeds: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """Run it in PyTorch: a `Runner`."""
        with torch.inference_mode(), quiet():
            result: tuple[Tensor, ...] = self(*(feeds[one.name] for one in self.inputs))
            return result


def module_to_onnx(network: HeadsOnly, name: str) -> ModelProto:
    """Export a network by way of torch.export.

    Args:
        network: Around a copy made by `copy_for_export`, or a module that is FP32 and in eval mode.
        name: What to call the network in messages.

    Returns:
        FP32 ONNX: from the inputs, batch first, to `head_<name>` float32[batch, K, h, w]. Only the batch is
        dynamic, and it is fixed to 1 where `spec.max_batch` is 1.

    Raises:
        ExportError: If the network does not run at this size or cannot be expressed in ONNX; the message says
            which sizes would work, or gives PyTorch's reason.
    """
    if network.spec.task == "generation":
        network.take_noise()
    dynamic = try_out(network.run, network.inputs, network.spec, name, network.drawn).dynamic_batch
    examples = tuple(one.zeros(2 if dynamic else 1) for one in network.inputs)
    with quiet(), torch.no_grad():
        program = _captured(network, examples, dynamic, name)
        try:
            exported = torch.onnx.export(program, (), dynamo=True, optimize=False, **_options(network))
            assert exported is not None
            optimize(exported.model)
        except Exception as problem:
            alone = (
                f". If it depends on the batch (groups=batch, say), set {batch_option(network.spec.task)}"
                if dynamic
                else ""
            )
            raise ExportError(
                f"torch.onnx cannot express {name}: {essential(problem)}; replace that operation in "
                f"forward(){alone}"
            ) from problem
        model = exported.model_proto
    return finished(model)


def script_to_onnx(network: HeadsOnly, name: str) -> ModelProto:
    """Export TorchScript, by the exporter that was written for it.

    torch.export does not take TorchScript, and PyTorch's converter between the two knows no loops and takes
    bilinear resizing apart.

    Args:
        network: Around what `torch.jit.load` returned.
        name: What to call the network in messages.

    Returns:
        As `module_to_onnx`.

    Raises:
        ExportError: As `module_to_onnx`.
    """
    if network.spec.task == "generation":
        network.take_noise()  # refuses all of it, which TorchScript draws out of sight
    dynamic = try_out(network.run, network.inputs, network.spec, name, network.drawn).dynamic_batch
    examples = tuple(one.zeros(2 if dynamic else 1) for one in network.inputs)
    options = _options(network)
    names = [*options["input_names"], *options["output_names"]]
    content = io.BytesIO()
    with quiet(), torch.no_grad():
        named = {one.name: value for one, value in zip(network.inputs, examples, strict=True)}
        outputs = network.call(network.network, named)
        try:
            torch.onnx.export(
                heads_of(network.network, network.spec, network.call, outputs),
                examples,
                content,  # type: ignore[arg-type]
                dynamo=False,
                dynamic_axes={tensor: {0: "batch"} for tensor in names} if dynamic else None,
                **options,
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


def _options(network: HeadsOnly) -> dict[str, Any]:
    return {
        "input_names": [one.name for one in network.inputs],
        "output_names": [f"head_{head.name}" for head in network.spec.heads],
        "opset_version": network.spec.opset,
        "verbose": False,
        "external_data": False,
    }


def _captured(
    network: HeadsOnly, examples: tuple[Tensor, ...], dynamic: bool, name: str
) -> torch.export.ExportedProgram:
    batch = {0: torch.export.Dim("batch", max=network.max_batch)}
    shapes = (tuple(batch for _ in examples),) if dynamic else None
    try:
        with distributions_unchecked():
            return torch.export.export(network, examples, dynamic_shapes=shapes, strict=False)
    except ExportError:
        raise
    except Exception as problem:
        text = str(problem)
        if "data-dependent" in text or "GuardOnDataDependent" in type(problem).__name__:
            advice = "forward() decides by the values of a tensor; replace the if by torch.where"
        elif re.search(r"specialized it to be a constant|Constraints violated", text):
            first = network.inputs[0].name
            advice = (
                f"forward() writes the batch size {len(examples[0])} into the network as a number; use "
                f"{first}.shape[0] or -1 in reshape and view, or set {batch_option(network.spec.task)}"
            )
        else:
            advice = "torch.export must be able to follow forward(): tensors and plain Python only"
        raise ExportError(
            f"torch.export cannot follow {name}: {advice}. PyTorch says: {essential(problem)}"
        ) from problem
