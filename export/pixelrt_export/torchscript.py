"""Networks saved with `torch.jit.save`."""

from __future__ import annotations

import zipfile
from pathlib import Path

import torch
from torch import nn

from pixelrt.errors import CheckpointError
from pixelrt_export.checkpoint import refuse_what_is_no_model
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


def _members(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except zipfile.BadZipFile as problem:
        raise CheckpointError(
            f"{path} is no readable TorchScript archive ({problem}); it was cut short or is something else "
            "(a pickled module, say): copy it again, or save it with torch.jit.save"
        ) from problem
