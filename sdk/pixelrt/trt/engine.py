"""Loads engines and runs them on a stream: TensorRT's side of `pixelrt.pipeline`.

What is kept alive by what: runtime > engine > execution context > buffers. Dropping the last reference frees.
"""

from __future__ import annotations

import contextlib
import logging
import weakref
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from pixelrt.cuda.protocol import Stream
from pixelrt.errors import (
    DeviceError,
    EngineRefused,
    ExecutionFailed,
    HardwareMismatch,
    InputError,
    OutOfMemory,
    PixelRTError,
    VersionMismatch,
)
from pixelrt.tensors import Shape, TensorSpec
from pixelrt.trt.library import Library, explain
from pixelrt.trt.network import DTYPES
from pixelrt.trt.runtime_cache import RuntimeCache

_LOG = logging.getLogger("pixelrt.trt")

_REASONS: dict[str, tuple[type[PixelRTError], str]] = {
    "VERSION_MISMATCH": (VersionMismatch, "it was built by another version; build it again with this one"),
    "UNSUPPORTED_CC": (HardwareMismatch, "it was built for other GPUs; build it for this one"),
    "OLD_CUDA_DRIVER": (EngineRefused, "the NVIDIA driver is too old for it; update the driver"),
    "OLD_CUDA_RUNTIME": (EngineRefused, "the CUDA libraries are too old for it; update them"),
    "INSUFFICIENT_GPU_MEMORY": (OutOfMemory, "the GPU has too little free memory; close other programs"),
    "MALFORMED_ENGINE": (EngineRefused, "it is damaged, or no engine; build or copy it again"),
    "CUDA_ERROR": (DeviceError, "CUDA failed while it was examined; see: nvidia-smi"),
}
"""TensorRT-RTX's diagnostics of an engine (`EngineInvalidityDiagnostics`), and what they mean here."""

_SAID: dict[str, tuple[type[PixelRTError], str]] = {
    "expecting library version": _REASONS["VERSION_MISMATCH"],
    "compute capability": _REASONS["UNSUPPORTED_CC"],
    "incompatible device": _REASONS["UNSUPPORTED_CC"],
    "out of memory": _REASONS["INSUFFICIENT_GPU_MEMORY"],
    "OutOfMemory": _REASONS["INSUFFICIENT_GPU_MEMORY"],
    "cudaError 35": (DeviceError, "there is no NVIDIA driver here, or one that is too old; see: nvidia-smi"),
}
"""What the regular TensorRT logs, which has no diagnostics of its own."""


Current = Callable[[], AbstractContextManager[None]]
"""Makes CUDA's context current while it lasts: `Driver.current`."""


class LoadedEngine:
    """An engine, ready to make execution contexts. Sessions may share it: it goes with the last reference."""

    def __init__(self, library: Library, engine: Any, runtime: Any, name: str, current: Current) -> None:
        """Keep an engine.

        Args:
            library: The TensorRT that runs it.
            engine: `ICudaEngine`.
            runtime: `IRuntime`, which must outlive it.
            name: For messages.
            current: For its destructor, which works with CUDA.
        """
        self.library = library
        self.name = name
        self._parts = [engine, runtime]
        weakref.finalize(self, _delete, self._parts, current).atexit = False

    def __repr__(self) -> str:
        return f"LoadedEngine({self.name!r}, {self.library.title})"

    @property
    def engine(self) -> Any:
        """`ICudaEngine`."""
        return self._parts[0]


def _delete(parts: list[Any], current: Current) -> None:
    """Drop references one after the other, wherever the garbage is collected."""
    with contextlib.suppress(DeviceError), current():
        while parts:
            parts.pop(0)


def supports(library: Library, target: str) -> bool:
    """Whether a TensorRT runs on a compute capability (`sm87`); the regular one always does."""
    known = getattr(library.trt, "ComputeCapability", None)
    return known is None or target.upper() in known.__members__


def load_engine(
    library: Library,
    content: bytes,
    name: str,
    *,
    trust_host_code: bool = False,
    dla_core: int | None = None,
    current: Current = contextlib.nullcontext,
) -> LoadedEngine:
    """Deserialise an engine. It is native code: its origin must have been checked before.

    Args:
        library: The TensorRT that runs it. CUDA must be current on this thread.
        content: The engine, exactly as the builder returned it.
        name: For messages.
        trust_host_code: Allow an engine of a version compatible build to bring its own runtime.
        dla_core: The accelerator of a Jetson that an engine was built for; None for the GPU alone.
        current: Makes CUDA current when the engine is deleted.

    Raises:
        VersionMismatch: If another version of TensorRT built it.
        HardwareMismatch: If it was built for another GPU.
        OutOfMemory: If it does not fit into the GPU's memory.
        EngineRefused: If it is damaged, or TensorRT refuses it for another reason.
        DeviceError: If there is no GPU or no driver.
    """
    trt = library.trt
    library.take_problems()
    runtime = _make_runtime(library)
    _examine(library, runtime, content, name)
    if trust_host_code and hasattr(runtime, "engine_host_code_allowed"):
        runtime.engine_host_code_allowed = True
    if dla_core is not None:
        _set_dla_core(library, runtime, dla_core, name)
    if hasattr(trt, "init_libnvinfer_plugins"):
        library.check(trt.init_libnvinfer_plugins(library.logger, ""), "to register its own plugins")
    engine = runtime.deserialize_cuda_engine(content)
    if engine is None:
        raise refusal(library, name)
    return LoadedEngine(library, engine, runtime, name, current)


def _make_runtime(library: Library) -> Any:
    try:
        return library.trt.Runtime(library.logger)
    except TypeError as problem:  # how the bindings report a null pointer
        raise DeviceError(
            f"{library.title} cannot start: {explain(library.take_problems() or [str(problem)])}"
        ) from problem


def _set_dla_core(library: Library, runtime: Any, core: int, name: str) -> None:
    available = getattr(runtime, "num_DLA_cores", 0)
    if core >= available:
        raise HardwareMismatch(
            f"{name} is for accelerator {core}, {library.title} finds {available} of them here; build it "
            "again, without --useDLACore or with another number"
        )
    runtime.DLA_core = core


def _examine(library: Library, runtime: Any, content: bytes, name: str) -> None:
    """Ask what is wrong with an engine, where TensorRT can tell before it loads it."""
    if not hasattr(runtime, "get_engine_validity"):
        return
    validity, diagnostics = runtime.get_engine_validity(content)
    if validity != library.trt.EngineValidity.INVALID:
        return
    known = library.trt.EngineInvalidityDiagnostics.__members__.items()
    for found, bit in known:
        if diagnostics & int(bit) and found in _REASONS:
            kind, reason = _REASONS[found]
            raise kind(f"{library.title} cannot run {name}: {reason}{_details(library)}")
    raise refusal(library, name)


def refusal(library: Library, name: str) -> PixelRTError:
    """The error for an engine that TensorRT did not load, from what it logged."""
    problems = library.take_problems()
    text = " ".join(problems)
    kind, reason = next(
        (verdict for sign, verdict in _SAID.items() if sign in text),
        (EngineRefused, "it may be damaged, or of another version; build it again: pixelrt build"),
    )
    return kind(f"{library.title} cannot run {name}: {reason} (it says: {explain(problems)})")


def _details(library: Library) -> str:
    problems = library.take_problems()
    return f" (it says: {explain(problems)})" if problems else ""


class TensorRTExecutor:
    """Runs a loaded engine; one execution context per slot. See `pixelrt.pipeline.executor`."""

    def __init__(
        self,
        loaded: LoadedEngine,
        specs: tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]],
        *,
        graphs: bool,
        cache: RuntimeCache | None = None,
    ) -> None:
        """Compare the engine with what it should be.

        Args:
            loaded: The engine, which may be shared.
            specs: Inputs and outputs as the manifest says.
            graphs: Whether TensorRT-RTX may capture graphs by itself.
            cache: Where TensorRT-RTX keeps what it compiles on this machine.

        Raises:
            EngineRefused: If inputs and outputs of the engine are others.
        """
        self.inputs, self.outputs = specs
        self._loaded: LoadedEngine | None = loaded
        self._cache = cache
        _check_interface(loaded, self.inputs, self.outputs)
        self._config = _runtime_config(loaded, graphs=graphs, cache=cache)
        self.largest_batch: int | None = _largest_batch(loaded, self.inputs)
        own = graphs and hasattr(self._config, "cuda_graph_strategy")
        self.uncapturable = "TensorRT-RTX captures by itself" if own else ""

    def binding(self, stream: Stream) -> TensorRTBinding:
        """An execution context with memory of ours, so that slots can share it.

        Raises:
            OutOfMemory: If there is not enough memory for it.
            EngineRefused: If TensorRT refuses it for another reason.
        """
        loaded = self._loaded
        assert loaded is not None
        loaded.library.take_problems()
        context = _create_context(loaded, self._config)
        if context is None:
            raise refusal(loaded.library, f"{loaded.name} (no execution context)")
        _select_profile(loaded, context, stream)
        return TensorRTBinding(loaded, context, self._cache)

    def close(self) -> None:
        """Let go of the engine, and store what TensorRT-RTX has compiled."""
        if self._cache is not None:
            self._cache.store()
        self._cache = self._config = self._loaded = None


class TensorRTBinding:
    """An execution context with the shapes and addresses of one slot."""

    def __init__(self, loaded: LoadedEngine, context: Any, cache: RuntimeCache | None) -> None:
        self._loaded: Any = loaded  # dropped in `close`: an error that is kept must not keep the engine
        self._context = context
        self._cache = cache
        self._compiles = True
        self.scratch_bytes = 0

    def set_shapes(self, shapes: Mapping[str, Shape]) -> dict[str, Shape]:
        """See `Binding.set_shapes`."""
        context, library = self._context, self._loaded.library
        for name, shape in shapes.items():
            if not context.set_input_shape(name, shape):
                problems = library.take_problems()
                raise InputError(f"{_range_text(self._loaded, name, shape)} (TensorRT: {explain(problems)})")
        unknown = context.infer_shapes()
        if unknown:
            raise EngineRefused(
                f"{self._loaded.name}: the shapes of {', '.join(unknown)} do not follow from the inputs"
            )
        self.scratch_bytes, self._compiles = self._needed_bytes(), True
        engine = self._loaded.engine
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        return {name: tuple(context.get_tensor_shape(name)) for name in names if name not in shapes}

    def _needed_bytes(self) -> int:
        context, engine = self._context, self._loaded.engine
        if hasattr(context, "update_device_memory_size_for_shapes"):
            return int(context.update_device_memory_size_for_shapes())
        if hasattr(engine, "get_device_memory_size_for_profile_v2"):
            return int(engine.get_device_memory_size_for_profile_v2(0))
        return int(engine.device_memory_size)

    def set_scratch(self, address: int, size_bytes: int) -> None:
        """See `Binding.set_scratch`."""
        self._loaded.library.take_problems()
        self._context.set_device_memory(address, size_bytes)  # returns nothing; a refusal is logged
        if problems := self._loaded.library.take_problems():
            raise OutOfMemory(f"TensorRT refuses {size_bytes} bytes of working memory: {explain(problems)}")

    def bind(self, addresses: Mapping[str, int]) -> None:
        """See `Binding.bind`."""
        for name, address in addresses.items():
            if not self._context.set_tensor_address(name, address):
                raise self._refused(f"the address of {name!r}")

    def enqueue(self, stream: Stream) -> None:
        """See `Binding.enqueue`."""
        if not self._context.execute_async_v3(stream.handle):
            raise self._refused("to run a frame")
        if self._compiles and self._cache is not None:
            self._cache.store()  # now: a robot ends when its power does
        self._compiles = False

    def _refused(self, what: str) -> ExecutionFailed:
        library = self._loaded.library
        return ExecutionFailed(
            f"{library.title} refused {what}: {explain(library.take_problems())}; this frame has no result"
        )

    def close(self) -> None:
        """Free the context."""
        self._context = self._cache = self._loaded = None


def _create_context(loaded: LoadedEngine, config: Any) -> Any:
    if config is not None:
        return loaded.engine.create_execution_context(config)
    strategy = loaded.library.trt.ExecutionContextAllocationStrategy.USER_MANAGED
    return loaded.engine.create_execution_context(strategy)


def _runtime_config(loaded: LoadedEngine, *, graphs: bool, cache: RuntimeCache | None) -> Any:
    """What TensorRT-RTX asks for where the regular TensorRT takes a strategy alone; None for the latter."""
    trt, engine = loaded.library.trt, loaded.engine
    if not hasattr(engine, "create_runtime_config"):
        return None
    config = loaded.library.check(engine.create_runtime_config(), "to make a runtime configuration")
    if not hasattr(config, "cuda_graph_strategy"):
        return None
    config.set_execution_context_allocation_strategy(trt.ExecutionContextAllocationStrategy.USER_MANAGED)
    strategies = trt.CudaGraphStrategy
    config.cuda_graph_strategy = strategies.WHOLE_GRAPH_CAPTURE if graphs else strategies.DISABLED
    kinds = trt.DynamicShapesKernelSpecializationStrategy
    config.dynamic_shapes_kernel_specialization_strategy = kinds.EAGER  # no slow frames after the first
    if cache is not None:
        cache.attach(config)
    return config


def _largest_batch(loaded: LoadedEngine, inputs: tuple[TensorSpec, ...]) -> int:
    """The first axis of the largest shapes that it was built for."""
    highest = (loaded.engine.get_tensor_profile_shape(spec.name, 0)[2] for spec in inputs)
    return min(int(shape[0]) for shape in highest)


def _select_profile(loaded: LoadedEngine, context: Any, stream: Stream) -> None:
    """Take profile 0, the only one that PixelRT builds; contexts after the first may have none yet."""
    if context.active_optimization_profile == 0:
        return
    if not context.set_optimization_profile_async(0, stream.handle):
        raise EngineRefused(
            f"{loaded.library.title} refused the shapes of {loaded.name}: "
            f"{explain(loaded.library.take_problems())}; build it again: pixelrt build"
        )
    stream.synchronize()


def _check_interface(
    loaded: LoadedEngine, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]
) -> None:
    """Refuse an engine with other inputs and outputs than the manifest's."""
    engine, modes = loaded.engine, loaded.library.trt.TensorIOMode
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    found = {
        name: (
            engine.get_tensor_mode(name) == modes.INPUT,
            np.dtype(DTYPES.get(engine.get_tensor_dtype(name).name, "V")),
        )
        for name in names
    }
    expected = {spec.name: (spec in inputs, spec.dtype) for spec in (*inputs, *outputs)}
    if found != expected:
        raise EngineRefused(
            f"{loaded.name} has {_interface_text(found)}, the manifest says {_interface_text(expected)}; "
            "build it again from this bundle: pixelrt build"
        )


def _interface_text(tensors: Mapping[str, tuple[bool, np.dtype[Any]]]) -> str:
    parts = (f"{'input' if first else 'output'} {name} {dtype}" for name, (first, dtype) in tensors.items())
    return ", ".join(parts)


def _range_text(loaded: LoadedEngine, name: str, shape: Shape) -> str:
    low, _, high = (tuple(limit) for limit in loaded.engine.get_tensor_profile_shape(name, 0))
    return (
        f"input {name!r} has the shape {list(shape)}, {loaded.name} takes {list(low)} to {list(high)}; "
        "resize the frame, or build an engine for it (pixelrt build, --maxShapes)"
    )
