"""A network to export, whatever form it came in: a live module, a checkpoint, TorchScript, .pt2 or ONNX."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto
from torch import nn

from pixelrt.errors import ExportError
from pixelrt.manifest import NoiseInfo
from pixelrt.strict import type_of
from pixelrt_export.checkpoint import apply_state, load_state
from pixelrt_export.entry import build_module
from pixelrt_export.inputs import NetworkInput, NetworkSpec, Parameters, bind
from pixelrt_export.onnx_source import OnnxNetwork
from pixelrt_export.outputs import HeadOutput
from pixelrt_export.parts import Method, behave_as_in_training, part_of
from pixelrt_export.pt2 import Program, load_exported
from pixelrt_export.recipe import ModelSection
from pixelrt_export.recipe.sections import AsInTraining
from pixelrt_export.torch_onnx import HeadsOnly, copy_for_export, module_to_onnx, script_to_onnx, unwrapped
from pixelrt_export.torchscript import load_torchscript, script_parameters
from pixelrt_export.trial import outputs_per_head

__all__ = ["HeadOutput", "Network", "NetworkInput", "NetworkSpec", "from_module", "open_network"]


class Network(Protocol):
    """A trained network. It stands in FP32 for everything that the conversion is compared with."""

    @property
    def description(self) -> str:
        """Class name, entry point or file name, for messages and the manifest."""

    @property
    def checkpoint_sha256(self) -> str:
        """SHA-256 of the file that the weights came from; empty for a live module."""

    def to_onnx(self, spec: NetworkSpec) -> ModelProto:
        """The bare network in FP32 ONNX.

        Returns:
            A network with the inputs of `spec` (`image` float32[batch, C, H, W], say) and of `noise`, batch
            first, and one output `head_<name>` float32[batch, K, h, w] per head, checked and slimmed, batch
            norm folded. Only the batch is dynamic, and it is fixed to 1 where `spec.max_batch` is 1.

        Raises:
            ExportError: If the network cannot be exported like this; the message says what to change.
        """

    @property
    def noise(self) -> tuple[NoiseInfo, ...]:
        """Randomness inside the network, made inputs by the last `to_onnx`; none before it."""

    def reference(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        """What the original returns in FP32, by name of the head, float32[N, K, h, w].

        The heads are those of the last `to_onnx`, which comes first.

        Args:
            feeds: By the name of the input, batch first, noise included.

        Raises:
            RuntimeError: If `to_onnx` was not called.
            ValueError: If an input is missing or has another type or shape.
        """


def from_module(
    module: nn.Module, part: str | None = None, as_in_training: Sequence[AsInTraining] = ()
) -> Network:
    """A live module. It is copied (FP32, eval mode, CPU) here and now, and never touched again.

    Args:
        module: The network.
        part: The submodule that is exported (`decoder`), or a method (`decode`); dotted where nested.
        as_in_training: Layers that do at test time what they did in training (`dropout`, `batch_norm`).

    Raises:
        ExportError: If it has no weights yet, cannot be copied, or has no such part or layers.
    """
    if not isinstance(module, nn.Module):
        raise ExportError(f"the model is {type_of(module)}, a torch.nn.Module was expected")
    return _of_module(module, type(unwrapped(module)).__name__, "", part, as_in_training)


def _of_module(
    module: nn.Module, name: str, sha256: str, part: str | None, as_in_training: Sequence[AsInTraining]
) -> _TorchNetwork:
    if part is not None:
        module = part_of(unwrapped(module), part, name.rpartition(":")[2])
        name = f"{name}.{part}"
    copied = behave_as_in_training(copy_for_export(module), as_in_training, name)
    return _TorchNetwork(copied, name, sha256, partial(_prepared, must_drop="dropout" in as_in_training))


def open_network(section: ModelSection) -> Network:
    """Open what a recipe's [model] section names.

    Raises:
        RecipeError: If the entry point does not exist or does not take the args.
        CheckpointError: If a file is missing, damaged, or not what it should be.
        ExportError: If the network cannot be used.
    """
    if section.onnx is not None:
        return OnnxNetwork.open(Path(section.onnx))
    if section.torchscript is not None:
        path = Path(section.torchscript)
        return _TorchNetwork(
            load_torchscript(path), path.name, _sha256(path), _prepared_script, script_to_onnx
        )
    if section.exported is not None:
        path = Path(section.exported)
        return _TorchNetwork(load_exported(path), path.name, _sha256(path), _prepared_program)
    assert section.entry is not None  # ModelSection has exactly one of the four
    module = build_module(section.entry, section.args)
    sha256 = ""
    if section.checkpoint is not None:
        path = Path(section.checkpoint)
        apply_state(module, load_state(path), path)
        sha256 = _sha256(path)
    return _of_module(module, Path(section.entry).name, sha256, section.part, section.as_in_training)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _prepared(network: nn.Module, spec: NetworkSpec, name: str, *, must_drop: bool = False) -> HeadsOnly:
    """A live module with its parameters bound."""
    called = name.rpartition(":")[2]
    parameters = Parameters.of(
        network.forward, called if isinstance(network, Method) else f"{called}.forward"
    )
    ready = HeadsOnly(network, spec, bind(spec.inputs, parameters), name)
    ready.must_drop = must_drop
    return ready


def _prepared_script(network: nn.Module, spec: NetworkSpec, name: str) -> HeadsOnly:
    return HeadsOnly(network, spec, bind(spec.inputs, script_parameters(network, name)), name)


def _prepared_program(network: nn.Module, spec: NetworkSpec, name: str) -> HeadsOnly:
    assert isinstance(network, Program)  # of load_exported
    call = bind(spec.inputs, network.parameters_of_forward)
    network.check(spec, call, name)
    ready = HeadsOnly(network, spec, call, name)
    ready.max_batch = network.max_batch
    return ready


class _TorchNetwork:
    """A network that PyTorch runs: a copy of a module, TorchScript, or an exported program."""

    def __init__(
        self,
        network: nn.Module,
        description: str,
        checkpoint_sha256: str,
        prepare: Callable[[nn.Module, NetworkSpec, str], HeadsOnly] = _prepared,
        convert: Callable[[HeadsOnly, str], ModelProto] = module_to_onnx,
    ) -> None:
        self._network = network
        self._prepare = prepare
        self._convert = convert
        self._ready: HeadsOnly | None = None
        self.description = description
        self.checkpoint_sha256 = checkpoint_sha256

    @property
    def noise(self) -> tuple[NoiseInfo, ...]:
        return tuple(one.info for one in self._ready.noise) if self._ready else ()

    def to_onnx(self, spec: NetworkSpec) -> ModelProto:
        ready = self._prepare(self._network, spec, self.description)
        model = self._convert(ready, self.description)
        self._ready = ready
        return model

    def reference(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        if self._ready is None:
            return outputs_per_head(None, feeds, (), ())
        heads = [head.name for head in self._ready.spec.heads]
        return outputs_per_head(self._ready.run, feeds, heads, self._ready.inputs)
