"""CUDA through pycuda. Its primary context is pushed and popped around every call, never `autoinit`.

It has neither graphs, nor priorities of streams, nor a way to name a stream of another library.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import starmap
from typing import Any

import numpy as np

from pixelrt.cuda.driver import CudaDriver
from pixelrt.cuda.protocol import Bytes, DeviceInfo
from pixelrt.cuda.status import Status, error_of, find
from pixelrt.dependency import require
from pixelrt.errors import DeviceError

NAME = "pycuda"

_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING, which pycuda has no name for
_DEFAULT_STREAMS = (0, 1)  # the second is CU_STREAM_LEGACY
_INSTEAD = "cuda-python can: pip install 'pixelrt[cuda]'"


def open_pycuda(index: int = 0) -> CudaDriver:
    """Open a GPU.

    Raises:
        MissingDependency: If pycuda is not installed, or there is no driver that it could load.
        DeviceError: If there is no such GPU, or it cannot be used.
    """
    cuda = require("pycuda.driver", "pycuda", "using the GPU with pycuda")
    version = str(require("pycuda", "pycuda", "using the GPU with pycuda").VERSION_TEXT)
    return CudaDriver(_PyCuda(cuda, version, index))


class _PyCuda:
    """The calls.

    Handles are boxes, lists of one object of pycuda: streams and events are freed by their destructors only,
    and taking them out of the box calls those where the context is current.

    What is not freed when the interpreter ends is left to CUDA: pycuda's destructors would still call it, and
    give up the primary context as if it were one of their own.
    """

    name = NAME
    captures_graphs = False
    marks_all_work = False

    def __init__(self, cuda: Any, version: str, index: int) -> None:
        self._cuda = cuda
        self._opening = True
        self.version = version
        with self._checked():
            cuda.init()
            gpu = cuda.Device(index)
            self.device = self._describe(gpu, index)
            self._primary = _keep(gpu.retain_primary_context())
        self._opening = False

    @contextmanager
    def _checked(self) -> Iterator[None]:
        """The one checker of CUDA's answers: from pycuda's exceptions to PixelRT's."""
        try:
            yield
        except self._cuda.Error as problem:
            call, _, text = str(problem).partition(" failed: ")
            status = find(text) or Status(-1, type(problem).__name__, text)
            raise error_of(call, status, opening=self._opening) from problem

    def _describe(self, gpu: Any, index: int) -> DeviceInfo:
        kinds = self._cuda.device_attribute
        version = int(self._cuda.get_driver_version())
        return DeviceInfo(
            index=index,
            name=str(gpu.name()),
            compute_capability=gpu.compute_capability(),
            total_bytes=int(gpu.total_memory()),
            integrated=bool(gpu.get_attribute(kinds.INTEGRATED)),
            maps_host_memory=bool(gpu.get_attribute(kinds.CAN_MAP_HOST_MEMORY)),
            driver_version=(version // 1000, version % 1000 // 10),
        )

    def push(self) -> None:
        pushed: list[None] = []
        try:
            with self._checked():
                # one step for Python, with no place between the call and its note where Ctrl-C could come
                pushed.extend(starmap(self._primary.push, [()]))
        except BaseException:
            if pushed:
                self._cuda.Context.pop()
            raise

    def pop(self) -> None:
        popped: list[None] = []
        try:
            with self._checked():
                popped.extend(starmap(self._cuda.Context.pop, [()]))
        except KeyboardInterrupt:
            if not popped:
                self._cuda.Context.pop()
            raise

    def release(self) -> None:
        # detach leaves the context on the stack of the thread that calls it, so that thread must end
        problems: list[DeviceError] = []
        thread = threading.Thread(target=self._detach, args=[problems], name="pixelrt-pycuda-release")
        thread.start()
        thread.join()
        if problems:
            raise problems[0]

    def _detach(self, problems: list[DeviceError]) -> None:
        try:
            with self._checked():
                self._primary.push()
                self._primary.detach()
        except DeviceError as problem:  # its destructor would only fail again, and print it
            problems.append(problem)
        else:
            _let_go(self._primary)

    def allocate(self, size_bytes: int) -> tuple[Any, int]:
        with self._checked():
            memory = self._cuda.mem_alloc(size_bytes)
        return [_keep(memory)], int(memory)

    def free(self, memory: Any) -> None:
        with self._checked():
            _let_go(memory.pop())

    def allocate_host(self, size_bytes: int, mapped: bool) -> tuple[Any, int, int | None]:
        flags = self._cuda.host_alloc_flags
        chosen = flags.PORTABLE | (flags.DEVICEMAP if mapped else 0)
        with self._checked():
            array = self._cuda.pagelocked_empty(size_bytes, np.uint8, mem_flags=chosen)
            device_address = int(array.base.get_device_pointer()) if mapped else None
        return [_keep(array.base)], int(array.ctypes.data), device_address

    def free_host(self, memory: Any) -> None:
        with self._checked():
            _let_go(memory.pop())

    def new_stream(self, priority: int) -> tuple[Any, int]:
        if priority:
            raise DeviceError(f"pycuda cannot give a stream the priority {priority}, only 0; {_INSTEAD}")
        with self._checked():
            stream = _keep(self._cuda.Stream(_NON_BLOCKING))
        return [stream], int(stream.handle)

    def free_stream(self, stream: Any) -> None:
        _let_go(stream.pop())

    def new_event(self, timing: bool, blocking: bool) -> Any:
        kinds = self._cuda.event_flags
        flags = 0 if timing else int(kinds.DISABLE_TIMING)
        flags |= int(kinds.BLOCKING_SYNC) if blocking else 0
        with self._checked():
            return [_keep(self._cuda.Event(flags))]

    def free_event(self, event: Any) -> None:
        _let_go(event.pop())

    def copy_to_device(self, target: int, source: Bytes, stream: Any) -> None:
        with self._checked():
            self._cuda.memcpy_htod_async(target, source, stream[0])

    def copy_to_host(self, target: Bytes, source: int, stream: Any) -> None:
        with self._checked():
            self._cuda.memcpy_dtoh_async(target, source, stream[0])

    def copy_on_device(self, target: int, source: int, size_bytes: int, stream: Any) -> None:
        with self._checked():
            self._cuda.memcpy_dtod_async(target, source, size_bytes, stream[0])

    def record(self, event: Any, stream: Any) -> None:
        with self._checked():
            event[0].record(stream[0])

    def wait(self, stream: Any, event: Any) -> None:
        with self._checked():
            stream[0].wait_for_event(event[0])

    def wait_for_stream(self, stream: Any, other: int) -> None:
        if other not in _DEFAULT_STREAMS:
            raise DeviceError(
                f"pycuda cannot wait for the stream {other:#x} of another library; synchronize that stream "
                f"first, or work in CUDA's default stream; {_INSTEAD}"
            )
        with self._checked():
            stream[0].wait_for_event(self._cuda.Event(int(self._cuda.event_flags.DISABLE_TIMING)).record())

    def synchronize_stream(self, stream: Any) -> None:
        with self._checked():
            stream[0].synchronize()

    def synchronize_event(self, event: Any) -> None:
        with self._checked():
            event[0].synchronize()

    def is_done(self, event: Any) -> bool:
        with self._checked():
            return bool(event[0].query())

    def elapsed_ms(self, start: Any, end: Any) -> float:
        with self._checked():
            return float(end[0].time_since(start[0]))

    def begin_capture(self, stream: Any) -> None:
        raise DeviceError(f"pycuda cannot capture graphs; {_INSTEAD}")

    def end_capture(self, stream: Any) -> Any:
        raise DeviceError(f"pycuda cannot capture graphs; {_INSTEAD}")

    def launch(self, graph: Any, stream: Any) -> None:
        raise DeviceError(f"pycuda cannot launch graphs; {_INSTEAD}")

    def free_graph(self, graph: Any) -> None:
        raise DeviceError(f"pycuda cannot free graphs; {_INSTEAD}")

    def memory(self) -> tuple[int, int]:
        with self._checked():
            free, total = self._cuda.mem_get_info()
        return int(free), int(total)

    def mark_all_work(self, event: Any) -> None:
        raise DeviceError(f"pycuda cannot mark all work at once; synchronize instead, or {_INSTEAD}")

    def synchronize(self) -> None:
        with self._checked():
            self._cuda.Context.synchronize()


def _keep(value: Any) -> Any:
    """Count a reference that the end of the interpreter does not take away."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(value))
    return value


def _let_go(value: Any) -> None:
    """Give that reference back; it is destroyed when the caller has no other."""
    ctypes.pythonapi.Py_DecRef(ctypes.py_object(value))
