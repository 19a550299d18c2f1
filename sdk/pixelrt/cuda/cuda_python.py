"""CUDA through NVIDIA's own bindings, `cuda.bindings.driver` 12.9 or newer."""

from __future__ import annotations

from collections.abc import Callable
from itertools import starmap
from typing import Any

from pixelrt.cuda.driver import CudaDriver
from pixelrt.cuda.protocol import Bytes, DeviceInfo
from pixelrt.cuda.status import STATUSES, Status, error_of
from pixelrt.dependency import require
from pixelrt.errors import DeviceError

NAME = "cuda-python"

_MARKS_ALL_WORK = (12, 5)
"""The first CUDA with `cuCtxRecordEvent`."""


def open_cuda_python(index: int = 0) -> CudaDriver:
    """Open a GPU.

    Raises:
        MissingDependency: If the bindings are not installed.
        DeviceError: If there is no driver, no such GPU, or it cannot be used.
    """
    cuda = require("cuda.bindings.driver", "cuda", "using the GPU")
    version = str(require("cuda.bindings", "cuda", "using the GPU").__version__)
    return CudaDriver(_CudaPython(cuda, version, index))


class _CudaPython:
    """The calls. Handles are those of the bindings."""

    name = NAME
    captures_graphs = True

    def __init__(self, cuda: Any, version: str, index: int) -> None:
        self._cuda = cuda
        self._opening = True
        self.version = version
        self._call(cuda.cuInit, 0)
        self._gpu = self._call(cuda.cuDeviceGet, index)
        self.device = self._describe(index)
        self.marks_all_work = self.device.driver_version >= _MARKS_ALL_WORK
        self._primary = self._call(cuda.cuDevicePrimaryCtxRetain, self._gpu)
        self._opening = False

    def _call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function, check its status, and give what it returns beside it.

        Raises:
            DeviceError: If the status is not success, or the driver has no such function.
        """
        try:
            status, *values = function(*arguments)
        except RuntimeError as problem:  # the bindings: no libcuda.so.1, or one without this function
            raise DeviceError(
                f"{function.__name__} cannot be called: {problem}; install an NVIDIA driver as new as "
                f"cuda-bindings {self.version}, or bindings of the driver's own major version: "
                "pip install 'cuda-bindings==12.*'"
            ) from problem
        self._check(function.__name__, status)
        return values[0] if len(values) == 1 else values

    def _check(self, call: str, status: Any) -> None:
        """The one checker of CUDA's answers."""
        if int(status):
            raise error_of(call, self._describe_status(status), opening=self._opening)

    def _describe_status(self, status: Any) -> Status:
        """Ask CUDA for the name and text of a status, and our own table for what CUDA does not know."""
        code = int(status)
        found = [ask(status) for ask in (self._cuda.cuGetErrorName, self._cuda.cuGetErrorString)]
        if any(int(answer) or not value for answer, value in found):
            return STATUSES.get(code, Status(code, "", ""))
        name, text = (value.decode(errors="replace") for _, value in found)
        return Status(code, name, text)

    def _describe(self, index: int) -> DeviceInfo:
        cuda, kinds = self._cuda, self._cuda.CUdevice_attribute

        def ask(attribute: str) -> int:
            kind = getattr(kinds, f"CU_DEVICE_ATTRIBUTE_{attribute}")
            return int(self._call(cuda.cuDeviceGetAttribute, kind, self._gpu))

        version = int(self._call(cuda.cuDriverGetVersion))
        name: bytes = self._call(cuda.cuDeviceGetName, 256, self._gpu)
        return DeviceInfo(
            index=index,
            name=name.split(b"\0")[0].decode(errors="replace"),
            compute_capability=(ask("COMPUTE_CAPABILITY_MAJOR"), ask("COMPUTE_CAPABILITY_MINOR")),
            total_bytes=int(self._call(cuda.cuDeviceTotalMem, self._gpu)),
            integrated=bool(ask("INTEGRATED")),
            maps_host_memory=bool(ask("CAN_MAP_HOST_MEMORY")),
            driver_version=(version // 1000, version % 1000 // 10),
        )

    def push(self) -> None:
        answers: list[Any] = []
        try:
            # one step for Python, with no place between the call and its answer where Ctrl-C could come
            answers.extend(map(self._cuda.cuCtxPushCurrent, [self._primary]))
            self._check("cuCtxPushCurrent", answers[0][0])
        except BaseException:
            if answers and not int(answers[0][0]):
                self._call(self._cuda.cuCtxPopCurrent)
            raise

    def pop(self) -> None:
        answers: list[Any] = []
        try:
            answers.extend(starmap(self._cuda.cuCtxPopCurrent, [()]))
            self._check("cuCtxPopCurrent", answers[0][0])
        except KeyboardInterrupt:
            if not answers:
                self._call(self._cuda.cuCtxPopCurrent)
            raise

    def release(self) -> None:
        self._call(self._cuda.cuDevicePrimaryCtxRelease, self._gpu)

    def allocate(self, size_bytes: int) -> tuple[Any, int]:
        memory = self._call(self._cuda.cuMemAlloc, size_bytes)
        return memory, int(memory)

    def free(self, memory: Any) -> None:
        self._call(self._cuda.cuMemFree, memory)

    def allocate_host(self, size_bytes: int, mapped: bool) -> tuple[Any, int, int | None]:
        cuda = self._cuda
        flags = cuda.CU_MEMHOSTALLOC_PORTABLE | (cuda.CU_MEMHOSTALLOC_DEVICEMAP if mapped else 0)
        memory = int(self._call(cuda.cuMemHostAlloc, size_bytes, flags))
        if not mapped:
            return memory, memory, None
        try:
            return memory, memory, int(self._call(cuda.cuMemHostGetDevicePointer, memory, 0))
        except DeviceError:
            self.free_host(memory)
            raise

    def free_host(self, memory: Any) -> None:
        self._call(self._cuda.cuMemFreeHost, memory)

    def new_stream(self, priority: int) -> tuple[Any, int]:
        cuda = self._cuda
        last, first = self._call(cuda.cuCtxGetStreamPriorityRange)
        flags = int(cuda.CUstream_flags.CU_STREAM_NON_BLOCKING)
        stream = self._call(cuda.cuStreamCreateWithPriority, flags, max(int(first), min(priority, int(last))))
        return stream, int(stream)

    def free_stream(self, stream: Any) -> None:
        self._call(self._cuda.cuStreamDestroy, stream)

    def new_event(self, timing: bool, blocking: bool) -> Any:
        kinds = self._cuda.CUevent_flags
        flags = 0 if timing else int(kinds.CU_EVENT_DISABLE_TIMING)
        flags |= int(kinds.CU_EVENT_BLOCKING_SYNC) if blocking else 0
        return self._call(self._cuda.cuEventCreate, flags)

    def free_event(self, event: Any) -> None:
        self._call(self._cuda.cuEventDestroy, event)

    def copy_to_device(self, target: int, source: Bytes, stream: Any) -> None:
        address = source.__array_interface__["data"][0]
        self._call(self._cuda.cuMemcpyHtoDAsync, target, address, source.nbytes, stream)

    def copy_to_host(self, target: Bytes, source: int, stream: Any) -> None:
        address = target.__array_interface__["data"][0]
        self._call(self._cuda.cuMemcpyDtoHAsync, address, source, target.nbytes, stream)

    def copy_on_device(self, target: int, source: int, size_bytes: int, stream: Any) -> None:
        self._call(self._cuda.cuMemcpyDtoDAsync, target, source, size_bytes, stream)

    def record(self, event: Any, stream: Any) -> None:
        self._call(self._cuda.cuEventRecord, event, stream)

    def wait(self, stream: Any, event: Any) -> None:
        self._call(self._cuda.cuStreamWaitEvent, stream, event, 0)

    def wait_for_stream(self, stream: Any, other: int) -> None:
        event = self.new_event(timing=False, blocking=False)
        try:
            self.record(event, self._cuda.CUstream(other))
            self.wait(stream, event)
        finally:
            self.free_event(event)

    def synchronize_stream(self, stream: Any) -> None:
        self._call(self._cuda.cuStreamSynchronize, stream)

    def synchronize_event(self, event: Any) -> None:
        self._call(self._cuda.cuEventSynchronize, event)

    def is_done(self, event: Any) -> bool:
        (status,) = self._cuda.cuEventQuery(event)
        if status == self._cuda.CUresult.CUDA_ERROR_NOT_READY:
            return False
        self._check("cuEventQuery", status)
        return True

    def elapsed_ms(self, start: Any, end: Any) -> float:
        return float(self._call(self._cuda.cuEventElapsedTime, start, end))

    def begin_capture(self, stream: Any) -> None:
        # other threads allocate and copy meanwhile, which a capture in global mode would refuse them
        mode = self._cuda.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        self._call(self._cuda.cuStreamBeginCapture, stream, mode)

    def end_capture(self, stream: Any) -> Any:
        graph = self._call(self._cuda.cuStreamEndCapture, stream)
        try:
            return self._call(self._cuda.cuGraphInstantiate, graph, 0)
        finally:
            self._call(self._cuda.cuGraphDestroy, graph)

    def launch(self, graph: Any, stream: Any) -> None:
        self._call(self._cuda.cuGraphLaunch, graph, stream)

    def free_graph(self, graph: Any) -> None:
        self._call(self._cuda.cuGraphExecDestroy, graph)

    def memory(self) -> tuple[int, int]:
        free, total = self._call(self._cuda.cuMemGetInfo)
        return int(free), int(total)

    def mark_all_work(self, event: Any) -> None:
        if not self.marks_all_work:
            found = ".".join(map(str, self.device.driver_version))
            raise DeviceError(
                f"the installed driver speaks CUDA {found} and cannot mark all work at once, CUDA 12.5 can; "
                "synchronize instead"
            )
        self._call(self._cuda.cuCtxRecordEvent, self._primary, event)

    def synchronize(self) -> None:
        self._call(self._cuda.cuCtxSynchronize)
