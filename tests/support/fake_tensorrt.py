"""The part of TensorRT that runs engines, for machines without a GPU: what it refuses, and what it logs.

An "engine" is JSON; a NumPy function is what it computes, in work that is put into a stream of a `FakeCuda`.
Every name in here is one of the real library's, which `test_tensorrt.py` checks. Where TensorRT would crash,
or compute something else now and then, this raises `AssertionError` or adds to `Machine.mistakes`.
"""

from __future__ import annotations

import enum
import json
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from pixelrt.errors import DeviceError
from pixelrt.testing import FakeCuda
from pixelrt.testing.stream import FakeStream
from pixelrt.trt.library import Library
from pixelrt.trt.messages import Messages

Bytes = NDArray[np.uint8]
Shape = tuple[int, ...]
Kind = Literal["10.3", "10.13", "rtx"]
"""The regular TensorRT without and with a runtime configuration, and TensorRT-RTX."""
VERSIONS: dict[Kind, str] = {"10.3": "10.3.0", "10.13": "10.13.0", "rtx": "10.3.0"}
_SCRATCH_FACTOR = 4
"""Bytes of working memory per byte of the frame."""


class TensorIOMode(enum.Enum):
    NONE = 0
    INPUT = 1
    OUTPUT = 2


class DataType(enum.Enum):
    UINT8 = 0
    FLOAT = 1


class ExecutionContextAllocationStrategy(enum.Enum):
    STATIC = 0
    USER_MANAGED = 2


class CudaGraphStrategy(enum.Enum):
    DISABLED = 0
    WHOLE_GRAPH_CAPTURE = 1


class DynamicShapesKernelSpecializationStrategy(enum.Enum):
    LAZY = 0
    EAGER = 1


class EngineValidity(enum.Enum):
    VALID = 0
    SUBOPTIMAL = 1
    INVALID = 2


class EngineInvalidityDiagnostics(enum.IntEnum):
    VERSION_MISMATCH = 1
    UNSUPPORTED_CC = 2
    OLD_CUDA_DRIVER = 4
    OLD_CUDA_RUNTIME = 8
    INSUFFICIENT_GPU_MEMORY = 16
    MALFORMED_ENGINE = 32
    CUDA_ERROR = 64


@dataclass(frozen=True)
class Network:
    """What an engine computes: arrays of bytes from one array of bytes."""

    compute: Callable[[Bytes], Mapping[str, Bytes]]
    outputs: Mapping[str, tuple[str | int, ...]]
    """Shapes; named axes are those of the frame."""
    lowest: Shape = (1, 4, 4, 3)
    highest: Shape = (4, 64, 64, 3)


STRONGEST = Network(lambda frame: {"mask": frame.max(axis=-1)}, {"mask": ("batch", "height", "width")})


class Machine:
    """What is behind the library: a GPU, and switches for what goes wrong."""

    def __init__(self, cuda: FakeCuda, network: Network = STRONGEST) -> None:
        self.cuda = cuda
        self.network = network
        self.problems = Messages()
        self.mistakes: list[str] = []
        """What a real TensorRT would not have survived."""
        self.alive: Counter[str] = Counter()
        """Runtimes, engines, configurations and contexts that are not deleted."""
        self.lock = threading.Lock()
        self.refuse_enqueue = 0
        self.refuse_context = ""
        self.refuse_memory = 0
        self.contexts = 0
        self.profile_after_first = 0
        self.refitted: bytes | None = None
        self.host_code_allowed: list[bool] = []
        self.dla_core = -1

    def expect_current(self, call: str) -> None:
        if not self.cuda.is_current:
            raise AssertionError(f"{call} was called while CUDA's context is not current on this thread")

    def stream(self, handle: int) -> FakeStream | None:
        return self.cuda.gpu.streams.get(handle) if handle else None

    def refused(self, reason: str) -> bool:
        """Log why a call returns False."""
        self.problems.append(f"Error Code 3: API Usage Error ({reason})")
        return False

    def next_refusal(self) -> str:
        if not self.refuse_enqueue:
            return ""
        self.refuse_enqueue -= 1
        return "enqueue was refused"


class Life:
    """Of one of TensorRT's objects, from its making to its deletion."""

    def __init__(self, machine: Machine, kind: str, parent: Life | None = None) -> None:
        self.machine, self.kind, self.parent = machine, kind, parent
        self.children: Counter[str] = Counter()
        self.ended = False
        machine.expect_current(f"the maker of a {kind}")
        with machine.lock:
            machine.alive[kind] += 1
            if parent is not None:
                parent.children[kind] += 1

    def end(self) -> None:
        machine = self.machine
        with machine.lock:
            self.ended = True
            machine.alive[self.kind] -= 1
            if self.parent is not None:
                self.parent.children[self.kind] -= 1
            left = {kind: count for kind, count in self.children.items() if count}
            if left:
                machine.mistakes.append(f"the {self.kind} was deleted before what was made with it: {left}")
            if self.kind in ("engine", "context") and not machine.cuda.is_current:  # they hold GPU memory
                machine.mistakes.append(f"the {self.kind} was deleted while CUDA's context is not current")


class _Mortal:
    """What has to be deleted in time, and after all that was made with it."""

    _life: Life

    def __del__(self) -> None:
        if hasattr(self, "_life"):
            self._life.end()


def engine_file(version: str = "10.3.0", target: str = "sm86", **changes: Any) -> bytes:
    return json.dumps({"version": version, "target": target, "outputs": ["mask"], **changes}).encode()


class IExecutionContext(_Mortal):
    def __init__(self, machine: Machine, engine: Life, strategy: Any, *, own_graphs: bool) -> None:
        if strategy is not ExecutionContextAllocationStrategy.USER_MANAGED:
            raise AssertionError("memory of slots is shared, so contexts must not have their own")
        self._life = Life(machine, "context", engine)
        self._machine = machine
        self._own_graphs = own_graphs
        self._shape: Shape = ()
        self._addresses: dict[str, int] = {}
        self._memory: tuple[int, int] | None = None
        self._needed = 0
        self._warm = False
        self._number = machine.contexts
        self.active_optimization_profile = (
            0 if engine.children["context"] == 1 else machine.profile_after_first
        )

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        self._machine.expect_current("set_optimization_profile_async")
        stream = self._machine.stream(stream_handle)
        if stream is None:
            return self._machine.refused("no stream")
        stream.run(lambda: None, label="optimization profile")
        self.active_optimization_profile = profile_index
        self._forget_shapes()
        return True

    def _forget_shapes(self) -> None:
        self._shape, self._memory, self._needed, self._warm = (), None, 0, False

    def set_input_shape(self, name: str, shape: Shape) -> bool:
        self._machine.expect_current("set_input_shape")
        network = self._machine.network
        limits = zip(network.lowest, shape, network.highest, strict=True)
        if name != "frame" or not all(low <= size <= high for low, size, high in limits):
            self._machine.problems.append(f"Supplied binding dimension {shape} for {name} is out of range")
            return False
        if self.active_optimization_profile != 0:
            return self._machine.refused("no optimization profile was set")
        self._forget_shapes()
        self._shape = tuple(shape)
        return True

    def infer_shapes(self) -> list[str]:
        return [] if self._shape else ["frame"]

    def update_device_memory_size_for_shapes(self) -> int:
        self._machine.expect_current("update_device_memory_size_for_shapes")
        self._memory, self._needed = None, int(np.prod(self._shape)) * _SCRATCH_FACTOR
        return self._needed

    def get_tensor_shape(self, name: str) -> Shape:
        if name == "frame":
            return self._shape
        axes = dict(zip(("batch", "height", "width"), self._shape, strict=False))
        dims = self._machine.network.outputs.get(name, ())
        return tuple(axes[dim] if isinstance(dim, str) else dim for dim in dims)

    def set_device_memory(self, memory: int, size: int) -> None:
        machine = self._machine
        machine.expect_current("set_device_memory")
        self._memory = None
        needed = self._needed or int(np.prod(machine.network.highest)) * _SCRATCH_FACTOR
        if machine.refuse_memory:
            machine.refuse_memory -= 1
            machine.problems.append("device memory was refused")
        elif size < needed or memory % 256:
            machine.problems.append(f"device memory has {size} bytes at {memory:#x}, {needed} are needed")
        else:
            self._memory = (memory, size)

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self._machine.expect_current("set_tensor_address")
        if (name != "frame" and name not in self._machine.network.outputs) or memory % 256:
            self._machine.problems.append(f"no tensor {name}, or misaligned")
            return False
        self._addresses[name] = memory
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        machine = self._machine
        machine.expect_current("execute_async_v3")
        stream = machine.stream(stream_handle)
        if stream is None:
            return machine.refused("no stream, or the default one")
        if reason := machine.next_refusal() or self._unready() or self._uncapturable(stream):
            return machine.refused(reason)
        try:
            self._put(stream)
        except DeviceError as problem:
            machine.problems.append(f"Error Code 1: Cuda Runtime ({problem})")
            return False
        self._warm = True
        return True

    def _unready(self) -> str:
        if not self._shape or not self._needed:
            return "the shapes, or the size of the memory for them, are not known"
        if self._memory is None:
            return "no memory of enough size was set since the shapes were"
        if len(self._addresses) < 1 + len(self._machine.network.outputs):
            return "a tensor has no address"
        return ""

    def _uncapturable(self, stream: FakeStream) -> str:
        if not stream.capturing:
            return ""
        if self._own_graphs:
            return "this context captures by itself"
        if self._warm:
            return ""
        try:
            stream.synchronize()  # the first run sets things up, and the capture is lost
        except DeviceError as problem:
            return str(problem)
        return "the first run at new shapes cannot be captured"

    def _put(self, stream: FakeStream) -> None:
        """Two kernels: from the frame to working memory, and from there to the outputs."""
        assert self._memory is not None
        frame = Tensor(self._addresses["frame"], self._shape)
        outputs = {
            name: Tensor(self._addresses[name], self.get_tensor_shape(name))
            for name in self._machine.network.outputs
        }
        memory = (self._memory[0], self._needed)
        run = Run(self._machine, self._life, self._number % 256, frame, outputs, memory)
        stream.run(run.begin, label="run, first half", reads=(frame.range,), writes=(memory,))
        stream.run(
            run.end,
            label="run, second half",
            reads=(memory,),
            writes=tuple(tensor.range for tensor in outputs.values()),
        )


@dataclass(frozen=True)
class Tensor:
    address: int
    shape: Shape

    @property
    def range(self) -> tuple[int, int]:
        return self.address, int(np.prod(self.shape))


@dataclass(frozen=True)
class Run:
    """Work in a stream or a graph, with frozen addresses. It keeps no context alive."""

    machine: Machine
    context: Life
    pattern: int
    frame: Tensor
    outputs: Mapping[str, Tensor]
    memory: tuple[int, int]

    def _view(self, tensor: Tensor) -> Bytes:
        return self.machine.cuda.view(*tensor.range).reshape(tensor.shape)

    def _memory(self) -> tuple[Bytes, Bytes]:
        """Working memory: the end holds the frame, the rest a pattern of this context."""
        if self.context.ended:
            self.machine.mistakes.append("work of a context was done after the context was deleted")
        memory = self.machine.cuda.view(*self.memory)
        size = self.frame.range[1]
        return memory[:-size], memory[-size:].reshape(self.frame.shape)

    def begin(self) -> None:
        rest, copied = self._memory()
        rest.fill(self.pattern)
        copied[:] = self._view(self.frame)

    def end(self) -> None:
        rest, copied = self._memory()
        if (rest != self.pattern).any():
            self.machine.mistakes.append("another run used the same working memory meanwhile")
        results = self.machine.network.compute(copied.copy())
        for name, tensor in self.outputs.items():
            self._view(tensor)[:] = results[name]


class IRuntimeCache:
    def __init__(self) -> None:
        self._content = b""

    def deserialize(self, cache: bytes) -> bool:
        self._content = cache
        return cache.startswith(b"kernels")

    def serialize(self) -> bytes:
        return b"kernels" + b"." * 9


class IRuntimeConfig(_Mortal):
    """As of the regular TensorRT 10.13."""

    def __init__(self, machine: Machine, engine: Life) -> None:
        self._life = Life(machine, "configuration", engine)
        self._strategy: Any = ExecutionContextAllocationStrategy.STATIC

    def set_execution_context_allocation_strategy(self, strategy: Any) -> None:
        self._strategy = strategy

    def get_execution_context_allocation_strategy(self) -> Any:
        return self._strategy


class RTXRuntimeConfig(IRuntimeConfig):
    def __init__(self, machine: Machine, engine: Life) -> None:
        super().__init__(machine, engine)
        self.cuda_graph_strategy = CudaGraphStrategy.DISABLED
        self.dynamic_shapes_kernel_specialization_strategy = DynamicShapesKernelSpecializationStrategy.LAZY
        self._cache: IRuntimeCache | None = None

    def create_runtime_cache(self) -> IRuntimeCache:
        return IRuntimeCache()

    def set_runtime_cache(self, cache: IRuntimeCache) -> bool:
        self._cache = cache
        return True

    def get_runtime_cache(self) -> IRuntimeCache | None:
        return self._cache


class ICudaEngine(_Mortal):
    def __init__(self, machine: Machine, runtime: Life, facts: dict[str, Any]) -> None:
        self._life = Life(machine, "engine", runtime)
        self._machine = machine
        self._names = ["frame", *facts["outputs"]]

    @property
    def num_io_tensors(self) -> int:
        return len(self._names)

    def get_tensor_name(self, index: int) -> str:
        return self._names[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name == "frame" else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> DataType:
        known = name == "frame" or name in self._machine.network.outputs
        return DataType.UINT8 if known else DataType.FLOAT

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[Shape]:
        network = self._machine.network
        return [network.lowest, network.lowest, network.highest]

    def get_device_memory_size_for_profile_v2(self, profile_index: int) -> int:
        return int(np.prod(self._machine.network.highest)) * _SCRATCH_FACTOR

    def create_execution_context(self, strategy: Any) -> IExecutionContext | None:
        machine = self._machine
        machine.expect_current("create_execution_context")
        if machine.refuse_context:
            machine.problems.append(machine.refuse_context)
            return None
        own = getattr(strategy, "cuda_graph_strategy", None) is CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        if isinstance(strategy, IRuntimeConfig):
            strategy = strategy.get_execution_context_allocation_strategy()
        machine.contexts += 1
        return IExecutionContext(machine, self._life, strategy, own_graphs=own)


class ConfiguredEngine(ICudaEngine):
    """As of the regular TensorRT 10.13."""

    def create_runtime_config(self) -> IRuntimeConfig:
        return IRuntimeConfig(self._machine, self._life)


class RTXEngine(ICudaEngine):
    def create_runtime_config(self) -> RTXRuntimeConfig:
        return RTXRuntimeConfig(self._machine, self._life)


class Runtime(_Mortal):
    _version: ClassVar[str] = VERSIONS["10.3"]
    _target: ClassVar[str] = "sm86"
    _engine: ClassVar[type[ICudaEngine]] = ICudaEngine

    def __init__(self, logger: Machine) -> None:
        self._life = Life(logger, "runtime")
        self._machine = logger
        self.engine_host_code_allowed = False
        self.num_DLA_cores = 2
        self.DLA_core = -1

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> ICudaEngine | None:
        self._machine.expect_current("deserialize_cuda_engine")
        self._machine.host_code_allowed.append(self.engine_host_code_allowed)
        self._machine.dla_core = self.DLA_core
        problem, facts = self._problem(serialized_engine)
        if problem:
            self._machine.problems.append(problem)
            return None
        return self._engine(self._machine, self._life, facts)

    def _problem(self, content: bytes) -> tuple[str, dict[str, Any]]:
        try:
            facts = json.loads(content)
        except ValueError:
            return "magicTag assertion failed", {}
        if facts["version"] != self._version:
            return (
                "The engine plan file is not compatible with this version of TensorRT, "
                f"expecting library version {self._version} got {facts['version']}"
            ), {}
        if facts["target"] != self._target:
            return "The engine plan file is generated on an incompatible device", {}
        if facts.get("huge"):
            return "Error Code 2: OutOfMemory (Requested size was 99 bytes.)", {}
        return "", facts


class ConfiguredRuntime(Runtime):
    _version = VERSIONS["10.13"]
    _engine = ConfiguredEngine


class RTXRuntime(Runtime):
    _version = VERSIONS["rtx"]
    _engine = RTXEngine

    def get_engine_validity(self, buffer: bytes) -> tuple[EngineValidity, int]:
        if not buffer.startswith(b"{"):
            return EngineValidity.INVALID, int(EngineInvalidityDiagnostics.MALFORMED_ENGINE)
        if json.loads(buffer)["target"] != self._target:
            self._machine.problems.append("Unsupported compute capability: 8.9")
            return EngineValidity.INVALID, int(EngineInvalidityDiagnostics.UNSUPPORTED_CC)
        return EngineValidity.VALID, 0


_RUNTIMES: dict[Kind, type[Runtime]] = {
    "10.3": Runtime,
    "10.13": ConfiguredRuntime,
    "rtx": RTXRuntime,
}


def fake_library(machine: Machine, kind: Kind = "10.3") -> Library:
    """Return a `Library` as `load_library` does."""
    trt = SimpleNamespace(
        Runtime=_RUNTIMES[kind],
        TensorIOMode=TensorIOMode,
        ExecutionContextAllocationStrategy=ExecutionContextAllocationStrategy,
        init_libnvinfer_plugins=lambda logger, namespace: True,
    )
    if kind == "rtx":
        trt.EngineValidity = EngineValidity
        trt.EngineInvalidityDiagnostics = EngineInvalidityDiagnostics
        trt.CudaGraphStrategy = CudaGraphStrategy
        trt.DynamicShapesKernelSpecializationStrategy = DynamicShapesKernelSpecializationStrategy
        trt.ComputeCapability = enum.Enum("ComputeCapability", ["SM86", "SM89"])
    flavour: Any = "tensorrt_rtx" if kind == "rtx" else "tensorrt"
    return Library(flavour, trt, VERSIONS[kind], machine, machine.problems)
