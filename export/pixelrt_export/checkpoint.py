"""Weights from files, without running anything that the files bring along."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from itertools import islice
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from pixelrt.errors import CheckpointError
from pixelrt.file_kind import FileKind, kind_of
from pixelrt.strict import type_of
from pixelrt_export.quiet import essential, quiet

_NESTED_UNDER = ("state_dict", "model_state_dict", "model")
_PREFIXES = ("module.", "_orig_mod.")


def load_state(path: Path) -> dict[str, Tensor]:
    """Read a state dict, on the CPU whatever device it was saved on.

    Understands `.safetensors`, and `.pt` or `.pth` files that hold a state dict, also under `state_dict`,
    `model_state_dict` or `model`, and with the prefixes of DataParallel (`module.`) and torch.compile
    (`_orig_mod.`), which are removed.

    Raises:
        CheckpointError: If the file is missing or empty, is a Git LFS pointer, a web page or a pickled
            module, is damaged, or holds no tensors.
    """
    refuse_what_is_no_model(path)
    if path.suffix == ".safetensors":
        return _safetensors(path)
    if path.suffix in {".pt", ".pth", ".bin", ".ckpt"}:
        return _without_prefixes(_state_dict(_unpickle(path), path))
    raise CheckpointError(f"{path} ends in {path.suffix!r}, expected .safetensors, .pt or .pth")


_REFUSALS = {
    FileKind.MISSING: "does not exist, expected a file with weights; check the path",
    FileKind.FOLDER: "is a folder, expected a file with weights; check the path",
    FileKind.EMPTY: "is empty, expected a file with weights; copy or download it again",
    FileKind.LFS_POINTER: "is a Git LFS pointer, not the file itself; run: git lfs pull",
    FileKind.WEB_PAGE: (
        "is a web page, not a model: the download saved an error or login page; download it again"
    ),
    FileKind.JSON: "is JSON, expected a file with weights; check the path",
    **dict.fromkeys(
        (FileKind.TENSORRT_ENGINE, FileKind.RTX_ENGINE),
        "is a TensorRT engine, from which nothing can be exported; name the network that it was built from",
    ),
}


def refuse_what_is_no_model(path: Path) -> FileKind:
    """Explain the files that people mistake for a model.

    Returns:
        What the file is.

    Raises:
        CheckpointError: If `path` is missing, a folder or empty, cannot be read, or is a Git LFS pointer, a
            web page, JSON or an engine.
    """
    try:
        kind = kind_of(path)
    except OSError as problem:
        raise CheckpointError(
            f"{path} cannot be read ({problem.strerror}); check its permissions"
        ) from problem
    if kind in _REFUSALS:
        raise CheckpointError(f"{path} {_REFUSALS[kind]}")
    return kind


def apply_state(model: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Load a state dict into a model, every tensor or none.

    Raises:
        CheckpointError: If names or shapes differ: the checkpoint of another architecture.
    """
    expected = model.state_dict()
    problems = [
        *_listed("missing", [name for name in expected if name not in state]),
        *_listed("not in the model", [name for name in state if name not in expected]),
        *_listed("of another shape", list(_reshaped(expected, state))),
    ]
    if problems:
        raise CheckpointError(
            f"{path} is the checkpoint of another architecture than {type(model).__name__}: "
            f"{'; '.join(problems)}. Check the model's entry point and args"
        )
    model.load_state_dict(dict(state))


def _reshaped(expected: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> list[str]:
    return [
        f"{name} {tuple(state[name].shape)}, the model has {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in state and state[name].shape != tensor.shape
    ]


def _listed(what: str, names: list[str]) -> list[str]:
    if not names:
        return []
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return [f"{len(names)} {what} ({', '.join(islice(names, 3))}{more})"]


def _safetensors(path: Path) -> dict[str, Tensor]:
    try:
        state: dict[str, Tensor] = load_file(path)
    except (SafetensorError, ValueError) as problem:
        raise CheckpointError(
            f"{path} is no readable safetensors file ({problem}); it was cut short or is something else, "
            "copy or save it again"
        ) from problem
    return _without_prefixes(_tensors(state, path))


def _unpickle(path: Path) -> object:
    try:
        with quiet():
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as problem:
        raise CheckpointError(
            f"{path} holds more than tensors (a whole pickled module, say), and loading it would run code; "
            f"save the weights alone: torch.save(model.state_dict(), {path.name!r})"
        ) from problem
    except Exception as problem:  # nonsense makes the unpickler fail in every way
        if "TorchScript" in str(problem):
            raise CheckpointError(
                f"{path} is TorchScript, weights were expected; use torchscript = {path.name!r} in [model]"
            ) from problem
        raise CheckpointError(
            f"{path} is no readable PyTorch file ({essential(problem)}); it was cut short or is something "
            "else, copy or save it again"
        ) from problem


def _state_dict(loaded: object, path: Path) -> dict[str, Tensor]:
    if isinstance(loaded, Mapping):
        for key in _NESTED_UNDER:
            if isinstance(loaded.get(key), Mapping):
                return _state_dict(loaded[key], path)
    return _tensors(loaded, path)


def _tensors(loaded: object, path: Path) -> dict[str, Tensor]:
    if not isinstance(loaded, Mapping):
        raise CheckpointError(f"{path} holds {type_of(loaded)}, expected a state dict (name -> tensor)")
    tensors = {name: value for name, value in loaded.items() if isinstance(value, Tensor)}
    others = [str(name) for name in loaded if name not in tensors]
    if not tensors or others:
        raise CheckpointError(
            f"{path} holds {len(tensors)} tensors and {len(others)} other entries "
            f"({', '.join(others[:5]) or 'none'}), expected tensors alone, or a state dict under one of "
            f"{', '.join(_NESTED_UNDER)}"
        )
    return tensors


def _without_prefixes(state: dict[str, Tensor]) -> dict[str, Tensor]:
    for prefix in _PREFIXES * 2:
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state
