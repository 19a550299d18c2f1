"""What the training scripts share: checked arguments, weights to start from, and runs that are continued."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import torch
from torch import nn

from pixelrt.errors import CheckpointError
from pixelrt_export.checkpoint import apply_state, load_state

NOT_LEARNT = frozenset(
    {"out", "data", "cache", "init", "resume", "evaluate", "judge", "judge_epochs", "held_out", "samples"}
    | {"device", "threads"}
)
"""Options that may change when a run is continued: they say where it runs, and how it is judged."""


# --- arguments ----------------------------------------------------------------------------------------------


def positive(text: str) -> int:
    """A whole number from 1 on, for argparse."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value}, expected at least 1")
    return value


def natural(text: str) -> int:
    """A whole number from 0 on that PyTorch and NumPy take as a seed, for argparse."""
    value = int(text)
    if not 0 <= value < 2**63:
        raise argparse.ArgumentTypeError(f"{value}, expected at least 0 and less than 2^63")
    return value


def weight(text: str) -> float:
    """A finite number from 0 on, for argparse."""
    value = float(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text}, expected a number from 0 on")
    return value


def share(text: str) -> float:
    """A number from 0 to 1, for argparse."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text}, expected a number from 0 to 1")
    return value


def factor(text: str) -> float:
    """A finite number from 1 on, for argparse."""
    value = float(text)
    if not 1 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text}, expected a number from 1 on")
    return value


def device(text: str) -> str:
    """`cpu`, or `cuda` where PyTorch has a GPU, for argparse."""
    if text not in {"cpu", "cuda"}:
        raise argparse.ArgumentTypeError(f"{text!r}, expected cpu or cuda")
    if text == "cuda" and not torch.cuda.is_available():
        raise argparse.ArgumentTypeError("cuda, but PyTorch finds no GPU here; use cpu")
    return text


def add_machine(parser: argparse.ArgumentParser) -> None:
    """The arguments that say where a script runs."""
    found = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", type=device, default=found, help="cpu or cuda (here: %(default)s)")
    parser.add_argument("--threads", type=natural, default=0, help="CPU threads (0: PyTorch's choice)")


# --- weights ------------------------------------------------------------------------------------------------


def load_weights(network: nn.Module, path: Path, option: str, shape: str) -> None:
    """Load the weights that an option names.

    Args:
        network: Where they go.
        path: `.safetensors`, or another file with weights alone.
        option: Its name, for the message.
        shape: The options that decide the network's shape, for the message.

    Raises:
        SystemExit: If they cannot be read, or are of another network.
    """
    try:
        state = load_state(path)
    except CheckpointError as problem:
        raise SystemExit(f"{option}: {problem}") from problem
    try:
        apply_state(network, state, path)
    except CheckpointError as problem:
        raise SystemExit(f"{option}: {problem}: {shape} of this run") from problem


# --- runs ---------------------------------------------------------------------------------------------------


def prepare_run(options: argparse.Namespace) -> None:
    """Seeds, threads and the folder for the results: what makes a run the same each time."""
    torch.manual_seed(options.seed)
    torch.use_deterministic_algorithms(True, warn_only=True)
    if options.threads:
        torch.set_num_threads(options.threads)
    cv2.setNumThreads(1)
    options.out.mkdir(parents=True, exist_ok=True)


def settings(options: argparse.Namespace, pictures: int) -> dict[str, Any]:
    """What decides which weights a run ends in, as it is stored in last.pt.

    Args:
        options: The command line.
        pictures: How many are trained on, which stands for the data: folders may have moved.
    """
    named = {name: value for name, value in vars(options).items() if name not in NOT_LEARNT}
    plain = {name: list(value) if isinstance(value, tuple) else value for name, value in named.items()}
    return plain | {"pictures": pictures}


def save_run(path: Path, state: Mapping[str, Any]) -> None:
    """Write a last.pt, whole or not at all."""
    temporary = path.with_name(f"{path.name}.tmp")
    torch.save(dict(state), temporary)
    os.replace(temporary, path)


def load_run(path: Path, option: str, where: str) -> dict[str, Any]:
    """A last.pt as `save_run` wrote it, on a device.

    Raises:
        SystemExit: If there is none, or it is not such a file.
    """
    if not path.is_file():
        raise SystemExit(f"{option}: {path} does not exist; start without {option}")
    try:
        state = torch.load(path, map_location=where, weights_only=True)
    except Exception as problem:  # nonsense makes the unpickler fail in every way
        raise SystemExit(f"{option}: {path} cannot be read, expected a last.pt; is it damaged?") from problem
    if not isinstance(state, dict) or "settings" not in state:
        raise SystemExit(
            f"{option}: {path} says nothing of its run's options, expected a last.pt of this version of the "
            f"script; start without {option}"
        )
    return state


def refuse_others(stored: Mapping[str, Any], now: Mapping[str, Any], path: Path) -> None:
    """Refuse to continue under other options, --epochs among them: the learning rate follows it.

    Raises:
        SystemExit: If anything is not as it was.
    """
    names = [*stored, *(name for name in now if name not in stored)]
    others = [
        f"{flag(name)} {shown(stored.get(name))}, now {shown(now.get(name))}"
        for name in names
        if stored.get(name) != now.get(name)
    ]
    if others:
        raise SystemExit(
            f"--resume: {path} is of a run with {'; '.join(others)}. Give what it was started with; for "
            "anything else start a run in another --out, with --init for its weights"
        )


def flag(name: str) -> str:
    """How a setting is called on the command line."""
    return name if name == "pictures" else f"--{name.replace('_', '-')}"


def shown(value: Any) -> str:
    """A setting as it is written on the command line."""
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
