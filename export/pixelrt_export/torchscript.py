"""Networks saved with `torch.jit.save`."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pixelrt.errors import CheckpointError
from pixelrt_export.checkpoint import refuse_what_is_no_model
from pixelrt_export.outputs import HeadOutput, Step, locate
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


def heads_of(network: nn.Module, heads: tuple[HeadOutput, ...], outputs: object) -> nn.Module:
    """TorchScript that returns one tensor per head.

    Args:
        network: What `load_torchscript` returned.
        heads: Which outputs are wanted.
        outputs: What the network returns for an image.
    """
    wanted = ", ".join(_expression(outputs, locate(outputs, head)) for head in heads)
    selected = _Selected(network)
    selected.define(f"def forward(self, image):\n    outputs = self.network(image)\n    return ({wanted},)\n")
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
