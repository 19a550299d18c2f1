"""ONNX Runtime on a stream of ours: I/O binding to our memory, its side of `pixelrt.pipeline`."""

from __future__ import annotations

import contextlib
import functools
import io
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from pixelrt.backends.onnxruntime_errors import failures
from pixelrt.cuda.protocol import Stream
from pixelrt.errors import DeviceError, ExecutionFailed, InputError, OutOfMemory
from pixelrt.manifest import Axis, Manifest
from pixelrt.tensors import Shape, TensorSpec, axis_sizes, sized

_NO_WAIT = ("disable_synchronize_execution_providers", "1")
"""Run options: return when the work is in the stream, not when it is done."""


_ONE_NODE = bytes.fromhex(
    "08083a390a100a017812017922084964656e7469747912036f6e655a0f0a0178120a0a08080112040a020801620f0a0179120a0a0808"
    "0112040a02080142040a001011"
)
"""An ONNX with one Identity node, float32[1] to float32[1]; a test makes it and compares."""


@dataclass(frozen=True, slots=True)
class Provider:
    """An execution provider of ONNX Runtime, and where its memory is."""

    name: str
    options: Mapping[str, str]
    memory: str
    """`cuda` or `cpu`."""
    index: int


def cuda_provider(index: int, compute: Stream) -> Provider:
    """The CUDA provider with our stream.

    TF32 is off, so that float32 layers are float32, as everywhere else. Convolution algorithms are searched
    by trying them at the first run (cuDNN's exhaustive search), with as much memory as they like.
    """
    options = {
        "device_id": str(index),
        "user_compute_stream": str(compute.handle),
        "use_tf32": "0",
        "cudnn_conv_algo_search": "EXHAUSTIVE",
        "cudnn_conv_use_max_workspace": "1",
        "do_copy_in_default_stream": "1",
    }
    return Provider("CUDAExecutionProvider", options, "cuda", index)


@functools.cache
def provider_problem(library: ModuleType, index: int) -> str:
    """Why the CUDA provider cannot run although it is part of this ONNX Runtime; empty if it can.

    Found out with a network of one node: whether its libraries can be loaded, and suit the GPU and driver,
    shows only then. (Loading the provider's own file is no way: without ONNX Runtime around it, it crashes.)
    """
    if hasattr(library, "preload_dlls"):  # finds the libraries of pip's nvidia packages, and prints failures
        with contextlib.redirect_stdout(io.StringIO()):
            library.preload_dlls()
    try:
        _load(library, _ONE_NODE, Provider("CUDAExecutionProvider", {"device_id": str(index)}, "cuda", index))
    except DeviceError as problem:
        return str(problem)
    return ""


class ONNXRuntimeExecutor:
    """Runs an ONNX; one I/O binding per slot. See `pixelrt.pipeline.executor`."""

    uncapturable = (
        "ONNX Runtime frees memory in callbacks that it puts into the stream, which a graph would repeat "
        "(github.com/microsoft/onnxruntime/issues/32081)"
    )
    largest_batch: int | None = None

    def __init__(self, library: ModuleType, model: bytes, manifest: Manifest, provider: Provider) -> None:
        """Load the graph.

        Args:
            library: ONNX Runtime.
            model: The ONNX.
            manifest: Names its inputs and outputs, and their axes.
            provider: What runs it, with the ring's compute stream.

        Raises:
            OutOfMemory: If it does not fit into the GPU's memory.
            DeviceError: If ONNX Runtime refuses it, or would run it elsewhere.
        """
        self.inputs = tuple(map(TensorSpec.of, manifest.inputs))
        self.outputs = tuple(map(TensorSpec.of, manifest.outputs))
        self.axes = manifest.axes
        self.library = library
        self.provider = provider
        self.session: Any = _load(library, model, provider)

    def binding(self, stream: Stream) -> ONNXRuntimeBinding:
        """An I/O binding; runs go into the provider's stream, which `stream` must be."""
        return ONNXRuntimeBinding(self)

    def close(self) -> None:
        """Free the graph and its memory."""
        self.session = None


class ONNXRuntimeBinding:
    """An I/O binding with the shapes and addresses of one slot. Scratch memory is ONNX Runtime's own."""

    scratch_bytes = 0

    def __init__(self, executor: ONNXRuntimeExecutor) -> None:
        self._executor = executor
        self._binding: Any = executor.session.io_binding()
        self._shapes: dict[str, Shape] = {}
        self._run_options = executor.library.RunOptions()
        self._run_options.add_run_config_entry(*_NO_WAIT)

    def set_shapes(self, shapes: Mapping[str, Shape]) -> dict[str, Shape]:
        """See `Binding.set_shapes`."""
        sizes = axis_sizes(self._executor.inputs, shapes)
        for name, size in sizes.items():
            _check_axis(name, size, self._executor.axes)
        outputs = {spec.name: sized(spec, sizes) for spec in self._executor.outputs}
        self._shapes = {**shapes, **outputs}
        return outputs

    def set_scratch(self, address: int, size_bytes: int) -> None:
        """Not needed."""

    def bind(self, addresses: Mapping[str, int]) -> None:
        """See `Binding.bind`."""
        executor, provider = self._executor, self._executor.provider
        for specs, bind in (
            (executor.inputs, self._binding.bind_input),
            (executor.outputs, self._binding.bind_output),
        ):
            for spec in specs:
                bind(
                    name=spec.name,
                    device_type=provider.memory,
                    device_id=provider.index,
                    element_type=spec.dtype.type,
                    shape=self._shapes[spec.name],
                    buffer_ptr=addresses[spec.name],
                )

    def enqueue(self, stream: Stream) -> None:
        """See `Binding.enqueue`."""
        library = self._executor.library
        try:
            self._executor.session.run_with_iobinding(self._binding, self._run_options)
        except failures(library) as problem:
            text = str(problem).strip()
            kind = OutOfMemory if _is_memory(text) else ExecutionFailed
            raise kind(
                f"ONNX Runtime {library.__version__} failed at a frame: {text}; there is no result for it"
            ) from problem

    def close(self) -> None:
        """Let go of the memory that was bound."""
        self._binding = None


def _load(library: ModuleType, model: bytes, provider: Provider) -> Any:
    settings = library.SessionOptions()
    settings.log_severity_level = 3
    chosen = [(provider.name, dict(provider.options))]
    try:  # without its fallback, which prints and goes on with the CPU
        session = library.InferenceSession(model, settings, providers=chosen, enable_fallback=0)
    except failures(library) as problem:
        text = str(problem).strip()
        kind, hint = (
            (OutOfMemory, "close other programs that use the GPU")
            if _is_memory(text)
            else (DeviceError, "see `pixelrt doctor`, or load with device='cpu'")
        )
        raise kind(f"ONNX Runtime {library.__version__} cannot load the model: {text}; {hint}") from problem
    if provider.name not in session.get_providers():
        raise DeviceError(
            f"ONNX Runtime {library.__version__} could not start its {provider.name} and would run on "
            f"{', '.join(session.get_providers())} instead: it needs CUDA and cuDNN libraries of the version "
            "that it was built for (pip install 'onnxruntime-gpu[cuda,cudnn]'); or load with device='cpu'"
        )
    return session


def _is_memory(text: str) -> bool:
    return "out of memory" in text.lower() or "failed to allocate memory" in text.lower()


def _check_axis(name: str, size: int, axes: Mapping[str, Axis]) -> None:
    """Hold frames to the range that engines have too: what runs here shall run there."""
    if name in axes and not axes[name].min <= size <= axes[name].max:
        axis = axes[name]
        raise InputError(
            f"{name} of the frame is {size}, the bundle takes {axis.min} to {axis.max}; resize the frame"
        )
