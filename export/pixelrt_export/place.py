"""Where a network is that runs: its layer, and the line of its source."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.fx import GraphModule

_TORCH, _HERE = Path(torch.__file__).parent, Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Place:
    """What of a network is running."""

    layer: str = ""
    """Path of the innermost module: `up.0.4`; empty for the network itself."""
    line: str = ""
    """Of the network's source: `model.py:12`; empty where it has none, as in saved programs."""

    def __str__(self) -> str:
        parts = [f"in {self.layer}"] * bool(self.layer) + [f"at {self.line}"] * bool(self.line)
        return ", ".join(parts) or "in forward()"


def place() -> Place:
    """Where the network is that runs inside a module of this package (which has it as `network`)."""
    layer: nn.Module | None = None
    line = ""
    frame = inspect.currentframe()
    while frame is not None:
        owner, source = frame.f_locals.get("self"), Path(frame.f_code.co_filename)
        if isinstance(owner, nn.Module) and not isinstance(owner, GraphModule):
            network = getattr(owner, "network", None)
            if source.parent == _HERE and isinstance(network, nn.Module):
                paths = {id(part): path for path, part in network.named_modules()}
                return Place(paths.get(id(layer), ""), line)
            layer = layer or owner
        if not line and _TORCH not in source.parents and source.parent != _HERE and source.is_file():
            line = f"{source.name}:{frame.f_lineno}"
        frame = frame.f_back
    return Place()
