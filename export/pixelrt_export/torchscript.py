"""Networks saved with `torch.jit.save`."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from pixelrt.errors import CheckpointError
from pixelrt_export.checkpoint import refuse_what_is_no_model
from pixelrt_export.inputs import Call, NetworkSpec, Parameter, Parameters
from pixelrt_export.outputs import Step, locate
from pixelrt_export.quiet import essential, quiet


def load_torchscript(path: Path) -> nn.Module:
    """Load TorchScript on the CPU in FP32 and eval mode. It holds a program of its own, no pickled code.

    Raises:
        CheckpointError: If the file is missing, is no TorchScript, or was cut short.
    """
    refuse_what_is_no_model(path)
    names = _members(path)
    if not any(name.endswith("/constants.pkl") for name in names):
        what = "weights or a pickled module" if any(name.endswith("data.pkl") for name in names) else "a .pt2"
        raise CheckpointError(
            f"{path} is {what}, not TorchScript; for weights use entry and checkpoint in [model], for a .pt2 "
            "use exported, or save TorchScript: torch.jit.save(torch.jit.trace(model.eval(), image), path)"
        )
    try:
        with quiet():
            module = torch.jit.load(path, map_location="cpu")  # type: ignore[no-untyped-call]
    except (RuntimeError, ValueError) as problem:
        raise CheckpointError(
            f"{path} is no readable TorchScript ({essential(problem)}); it was cut short, or saved by a "
            "newer PyTorch: save it again"
        ) from problem
    network: nn.Module = module
    return network.eval().float()


def script_parameters(network: nn.Module, name: str) -> Parameters:
    """The parameters of TorchScript's forward()."""
    arguments = cast("Any", network).forward.schema.arguments[1:]  # without self
    listed = tuple(Parameter(one.name, not one.has_default_value()) for one in arguments)
    return Parameters(listed, f"{name}.forward({', '.join(one.name for one in listed)})")


def heads_of(network: nn.Module, spec: NetworkSpec, call: Call, outputs: object) -> nn.Module:
    """TorchScript that takes the inputs in their order, and returns one tensor per head.

    Args:
        network: What `load_torchscript` returned.
        spec: Inputs and heads that are wanted.
        call: Which input goes to which parameter.
        outputs: What the network returns for an example.
    """
    wanted = ", ".join(_expression(outputs, locate(outputs, head, spec.task)) for head in spec.heads)
    names = ", ".join(one.name for one in spec.inputs)
    given = ", ".join((*call.positional, *(f"{key}={name}" for key, name in call.keywords.items())))
    selected = _Selected(network)
    selected.define(
        f"def forward(self, {names}):\n    outputs = self.network({given})\n    return ({wanted},)\n"
    )
    return selected.eval()


class _Selected(torch.jit.ScriptModule):
    """Holds a network until `define` says which of its outputs are wanted."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network


def _expression(outputs: Any, path: tuple[Step, ...]) -> str:
    """The way to an output as TorchScript writes it."""
    text = "outputs"
    for step in path:
        if isinstance(outputs, Mapping):
            text, outputs = f"{text}[{step!r}]", outputs[step]
        else:
            index = outputs._fields.index(step) if isinstance(step, str) else step
            text, outputs = f"{text}[{index}]", outputs[index]
    return text


def _members(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except zipfile.BadZipFile as problem:
        raise CheckpointError(
            f"{path} is no readable TorchScript archive ({problem}); it was cut short or is something else "
            "(a pickled module, say): copy it again, or save it with torch.jit.save"
        ) from problem
