"""The part of TensorRT that runs engines, for machines without a GPU: what it refuses, and what it logs.

An "engine" is JSON; it computes a NumPy function on the memory of a `FakeCuda`. Every name in here is one of
the real library's, which `test_tensorrt.py` checks.
"""

from __future__ import annotations

import enum
import json
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np

from pixelrt.testing import FakeCuda
from pixelrt.trt.library import Library
from pixelrt.trt.messages import Messages


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


SHAPES = {
    "frame": (("batch", "height", "width", 3), "UINT8"),
    "mask": (("batch", "height", "width"), "UINT8"),
}
LOWEST, HIGHEST = (1, 4, 4, 3), (4, 64, 64, 3)


class Machine:
    """What is behind the library: a GPU, and switches for what goes wrong."""

    def __init__(self, cuda: FakeCuda) -> None:
        self.cuda = cuda
        self.problems = Messages()
        self.refuse_enqueue = 0
        self.refuse_context = ""
        self.contexts = 0
        self.profile_after_first = 0
        self.refitted: bytes | None = None
        self.host_code_allowed: list[bool] = []
        self.dla_core = -1


def engine_file(version: str = "10.3.0", target: str = "sm86", **changes: Any) -> bytes:
    return json.dumps({"version": version, "target": target, "outputs": ["mask"], **changes}).encode()


class IExecutionContext:
    def __init__(self, machine: Machine, strategy: Any) -> None:
        if strategy is not ExecutionContextAllocationStrategy.USER_MANAGED:
            raise AssertionError("memory of slots is shared, so contexts must not have their own")
        self._machine = machine
        self._shape: tuple[int, ...] = ()
        self._addresses: dict[str, int] = {}
        self._memory = (0, 0)
        self._needed = -1
        self.active_optimization_profile = 0 if machine.contexts == 1 else machine.profile_after_first

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        self.active_optimization_profile = profile_index
        return stream_handle != 0

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        fits = all(low <= size <= high for low, size, high in zip(LOWEST, shape, HIGHEST, strict=True))
        if name != "frame" or not fits:
            self._machine.problems.append(f"Supplied binding dimension {shape} for {name} is out of range")
            return False
        self._shape, self._needed = tuple(shape), -1
        return True

    def infer_shapes(self) -> list[str]:
        return [] if self._shape else ["frame"]

    def update_device_memory_size_for_shapes(self) -> int:
        self._needed = int(np.prod(self._shape)) * 4
        return self._needed

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self._shape if name == "frame" else self._shape[:-1]

    def set_device_memory(self, memory: int, size: int) -> None:
        if size < self._needed or memory % 256:
            self._machine.problems.append("device memory is too small")
        self._memory = (memory, size)

    def set_tensor_address(self, name: str, memory: int) -> bool:
        if name not in SHAPES or memory % 256:
            self._machine.problems.append(f"no tensor {name}, or misaligned")
            return False
        self._addresses[name] = memory
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        machine = self._machine
        ready = self.active_optimization_profile == 0 and self._memory[1] >= self._needed > 0
        if machine.refuse_enqueue or not ready or len(self._addresses) < len(SHAPES) or not stream_handle:
            machine.refuse_enqueue = max(0, machine.refuse_enqueue - 1)
            machine.problems.append("Error Code 3: API Usage Error (enqueue was refused)")
            return False
        size = int(np.prod(self._shape))
        frame = machine.cuda.view(self._addresses["frame"], size).reshape(self._shape)
        machine.cuda.view(self._addresses["mask"], size // 3)[:] = frame.max(axis=-1).ravel()
        return True


class IRuntimeCache:
    def __init__(self) -> None:
        self._content = b""

    def deserialize(self, cache: bytes) -> bool:
        self._content = cache
        return cache.startswith(b"kernels")

    def serialize(self) -> bytes:
        return b"kernels" + b"." * 9


class IRuntimeConfig:
    def __init__(self) -> None:
        self.cuda_graph_strategy = CudaGraphStrategy.DISABLED
        self.dynamic_shapes_kernel_specialization_strategy = DynamicShapesKernelSpecializationStrategy.LAZY
        self._strategy: Any = None
        self._cache: IRuntimeCache | None = None

    def set_execution_context_allocation_strategy(self, strategy: Any) -> None:
        self._strategy = strategy

    def get_execution_context_allocation_strategy(self) -> Any:
        return self._strategy

    def create_runtime_cache(self) -> IRuntimeCache:
        return IRuntimeCache()

    def set_runtime_cache(self, cache: IRuntimeCache) -> bool:
        self._cache = cache
        return True

    def get_runtime_cache(self) -> IRuntimeCache | None:
        return self._cache


class ICudaEngine:
    def __init__(self, machine: Machine, facts: dict[str, Any]) -> None:
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
        return DataType[SHAPES[name][1]] if name in SHAPES else DataType.FLOAT

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[tuple[int, ...]]:
        return [LOWEST, LOWEST, HIGHEST]

    def create_execution_context(self, strategy: Any) -> IExecutionContext | None:
        machine = self._machine
        if machine.refuse_context:
            machine.problems.append(machine.refuse_context)
            return None
        machine.contexts += 1
        if isinstance(strategy, IRuntimeConfig):
            strategy = strategy.get_execution_context_allocation_strategy()
        return IExecutionContext(machine, strategy)


class RTXEngine(ICudaEngine):
    def create_runtime_config(self) -> IRuntimeConfig:
        return IRuntimeConfig()


class Runtime:
    version: ClassVar[str] = "10.3.0"
    target: ClassVar[str] = "sm86"
    engine: ClassVar[type[ICudaEngine]] = ICudaEngine

    def __init__(self, logger: Machine) -> None:
        self._machine = logger
        self.engine_host_code_allowed = False
        self.num_DLA_cores = 2
        self.DLA_core = -1

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> ICudaEngine | None:
        self._machine.host_code_allowed.append(self.engine_host_code_allowed)
        self._machine.dla_core = self.DLA_core
        problem, facts = self._problem(serialized_engine)
        if problem:
            self._machine.problems.append(problem)
            return None
        return self.engine(self._machine, facts)

    def _problem(self, content: bytes) -> tuple[str, dict[str, Any]]:
        try:
            facts = json.loads(content)
        except ValueError:
            return "magicTag assertion failed", {}
        if facts["version"] != self.version:
            return (
                "The engine plan file is not compatible with this version of TensorRT, "
                f"expecting library version {self.version} got {facts['version']}"
            ), {}
        if facts["target"] != self.target:
            return "The engine plan file is generated on an incompatible device", {}
        if facts.get("huge"):
            return "Error Code 2: OutOfMemory (Requested size was 99 bytes.)", {}
        return "", facts


class RTXRuntime(Runtime):
    engine = RTXEngine

    def get_engine_validity(self, buffer: bytes) -> tuple[EngineValidity, int]:
        if not buffer.startswith(b"{"):
            return EngineValidity.INVALID, int(EngineInvalidityDiagnostics.MALFORMED_ENGINE)
        if json.loads(buffer)["target"] != self.target:
            self._machine.problems.append("Unsupported compute capability: 8.9")
            return EngineValidity.INVALID, int(EngineInvalidityDiagnostics.UNSUPPORTED_CC)
        return EngineValidity.VALID, 0


def fake_library(machine: Machine, *, rtx: bool = False) -> Library:
    """Return a `Library` as `load_library` does, of the regular TensorRT 10.3 or of TensorRT-RTX."""
    trt = SimpleNamespace(
        Runtime=RTXRuntime if rtx else Runtime,
        TensorIOMode=TensorIOMode,
        ExecutionContextAllocationStrategy=ExecutionContextAllocationStrategy,
    )
    if rtx:
        trt.EngineValidity = EngineValidity
        trt.EngineInvalidityDiagnostics = EngineInvalidityDiagnostics
        trt.CudaGraphStrategy = CudaGraphStrategy
        trt.DynamicShapesKernelSpecializationStrategy = DynamicShapesKernelSpecializationStrategy
        trt.ComputeCapability = enum.Enum("ComputeCapability", ["SM86", "SM89"])
    flavour: Any = "tensorrt_rtx" if rtx else "tensorrt"
    return Library(flavour, trt, "10.3.0", machine, machine.problems)
