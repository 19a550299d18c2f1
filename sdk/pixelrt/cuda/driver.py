"""The driver that both libraries share: who owns what, what may be given, and under which context.

A library fills in `Library`, the calls. Whatever refers to an object of its own is an opaque handle here.
"""

from __future__ import annotations

import weakref
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar

import numpy as np

from pixelrt.closing import Closing
from pixelrt.cuda.capturing import CAPTURING
from pixelrt.cuda.protocol import Bytes, DeviceInfo, Event, Graph, Stream
from pixelrt.cuda.resources import CLOSED_DRIVER, Context, Owned, PrimaryContext, made_in
from pixelrt.errors import DeviceError, InputError
from pixelrt.strict import type_of

Handle = Any
Made = TypeVar("Made", bound=Owned)


class Library(PrimaryContext, Protocol):
    """The calls of CUDA on one GPU. All but those of `PrimaryContext` are made while its context is current.

    Each raises what `status.error_of` gives when CUDA refuses.
    """

    name: str
    version: str
    device: DeviceInfo
    captures_graphs: bool
    marks_all_work: bool

    def allocate(self, size_bytes: int) -> tuple[Handle, int]:
        """A handle, and the address."""
        ...

    def free(self, memory: Handle) -> None:
        """Free it."""
        ...

    def allocate_host(self, size_bytes: int, mapped: bool) -> tuple[Handle, int, int | None]:
        """A handle, the address, and the one on the GPU of mapped memory."""
        ...

    def free_host(self, memory: Handle) -> None:
        """Free it."""
        ...

    def new_stream(self, priority: int) -> tuple[Handle, int]:
        """A handle, and the `cudaStream_t`."""
        ...

    def free_stream(self, stream: Handle) -> None:
        """Free it."""
        ...

    def new_event(self, timing: bool, blocking: bool) -> Handle:
        """A handle."""
        ...

    def free_event(self, event: Handle) -> None:
        """Free it."""
        ...

    def copy_to_device(self, target: int, source: Bytes, stream: Handle) -> None:
        """Copy from page-locked memory."""
        ...

    def copy_to_host(self, target: Bytes, source: int, stream: Handle) -> None:
        """Copy to page-locked memory."""
        ...

    def copy_on_device(self, target: int, source: int, size_bytes: int, stream: Handle) -> None:
        """Copy."""
        ...

    def record(self, event: Handle, stream: Handle) -> None:
        """Put a mark into a stream."""
        ...

    def wait(self, stream: Handle, event: Handle) -> None:
        """Let a stream wait for a mark."""
        ...

    def wait_for_stream(self, stream: Handle, other: int) -> None:
        """Let it wait for a `cudaStream_t`."""
        ...

    def synchronize_stream(self, stream: Handle) -> None:
        """Wait for all work in it."""
        ...

    def synchronize_event(self, event: Handle) -> None:
        """Wait for it."""
        ...

    def is_done(self, event: Handle) -> bool:
        """Whether the stream has come to it."""
        ...

    def elapsed_ms(self, start: Handle, end: Handle) -> float:
        """GPU time between two marks."""
        ...

    def begin_capture(self, stream: Handle) -> None:
        """Begin a capture, which touches this thread alone."""
        ...

    def end_capture(self, stream: Handle) -> Handle:
        """A graph that can be launched."""
        ...

    def launch(self, graph: Handle, stream: Handle) -> None:
        """Put it into a stream."""
        ...

    def free_graph(self, graph: Handle) -> None:
        """Free it."""
        ...

    def memory(self) -> tuple[int, int]:
        """Free and total bytes."""
        ...

    def mark_all_work(self, event: Handle) -> None:
        """Put a mark behind the work of all streams."""
        ...

    def synchronize(self) -> None:
        """Wait for everything."""
        ...


class CudaMemory(Owned):
    """Memory of the GPU."""

    kind = "device memory"

    def __init__(self, context: Context, library: Library, size_bytes: int) -> None:
        _check_size(size_bytes)
        with context:
            handle, self._address = library.allocate(size_bytes)
        self._size_bytes = size_bytes
        super().__init__(context, handle, library.free)

    @property
    def address(self) -> int:
        """Where it begins, for the GPU."""
        self.check_open()
        return self._address

    @property
    def size_bytes(self) -> int:
        """How much there is."""
        return self._size_bytes


class CudaHostMemory(Owned):
    """Page-locked memory of the host. An array of it keeps it alive, but not from being closed."""

    kind = "host memory"

    def __init__(self, context: Context, library: Library, size_bytes: int, mapped: bool) -> None:
        _check_size(size_bytes)
        if mapped and not library.device.maps_host_memory:
            raise DeviceError(
                f"{library.device.name} cannot map host memory, so frames must be copied: "
                "GpuOptions(zero_copy=False)"
            )
        with context:
            handle, self._address, self._device_address = library.allocate_host(size_bytes, mapped)
        self._size_bytes = size_bytes
        super().__init__(context, handle, library.free_host)

    @property
    def array(self) -> Bytes:
        """All of it, uint8[size_bytes]."""
        return np.asarray(self)

    @property
    def __array_interface__(self) -> dict[str, Any]:
        self.check_open()
        return {"version": 3, "shape": (self._size_bytes,), "typestr": "|u1", "data": (self._address, False)}

    @property
    def size_bytes(self) -> int:
        """How much there is."""
        return self._size_bytes

    @property
    def device_address(self) -> int | None:
        """Where the GPU sees it, if it was allocated as mapped."""
        self.check_open()
        return self._device_address


class CudaEvent(Owned):
    """A mark in a stream."""

    kind = "event"

    def __init__(self, context: Context, library: Library, timing: bool, blocking: bool) -> None:
        with context:
            handle = library.new_event(timing, blocking)
        self._library, self._timing = library, timing
        super().__init__(context, handle, library.free_event)

    def synchronize(self) -> None:
        """Wait until the stream has come to it. Returns at once if it was never recorded."""
        with self.context:
            self._library.synchronize_event(self.open_handle)

    @property
    def done(self) -> bool:
        """Whether the stream has come to it."""
        with self.context:
            return self._library.is_done(self.open_handle)

    def elapsed_ms(self, since: Event) -> float:
        """GPU time from another event to this one, both made with `timing`, recorded and done."""
        start = self._sibling(since, CudaEvent)
        if not (self._timing and start._timing):
            raise InputError("time between events that were not made with timing=True")
        with self.context:
            return self._library.elapsed_ms(start.open_handle, self.open_handle)


class CudaGraph(Owned):
    """Work that was captured from a stream."""

    kind = "graph"

    def __init__(self, context: Context, library: Library, handle: Handle) -> None:
        self._library = library
        super().__init__(context, handle, library.free_graph)

    def launch(self, stream: Stream) -> None:
        """Put it into a stream."""
        with self.context:
            self._library.launch(self.open_handle, self._sibling(stream, CudaStream).open_handle)


class CudaStream(Owned):
    """Work that the GPU does in order."""

    kind = "stream"

    def __init__(self, context: Context, library: Library, priority: int) -> None:
        with context:
            handle, self._number = library.new_stream(priority)
        self._library = library
        super().__init__(context, handle, library.free_stream)

    @property
    def handle(self) -> int:
        """The `cudaStream_t`."""
        self.check_open()
        return self._number

    def copy_to_device(self, target: int, source: Bytes) -> None:
        """Copy contiguous page-locked bytes to an address on the GPU."""
        _check_bytes(source)
        with self.context:
            self._library.copy_to_device(target, source, self.open_handle)

    def copy_to_host(self, target: Bytes, source: int) -> None:
        """Fill contiguous page-locked bytes from an address on the GPU."""
        _check_bytes(target)
        if not target.flags.writeable:
            raise InputError("bytes to copy to are read-only, expected an array that can be written")
        with self.context:
            self._library.copy_to_host(target, source, self.open_handle)

    def copy_on_device(self, target: int, source: int, size_bytes: int) -> None:
        """Copy from one address on the GPU to another."""
        _check_size(size_bytes)
        with self.context:
            self._library.copy_on_device(target, source, size_bytes, self.open_handle)

    def record(self, event: Event) -> None:
        """Put a mark behind all work so far."""
        with self.context:
            self._library.record(self._sibling(event, CudaEvent).open_handle, self.open_handle)

    def wait(self, event: Event) -> None:
        """Let all work to come wait for the latest recording of an event."""
        with self.context:
            self._library.wait(self.open_handle, self._sibling(event, CudaEvent).open_handle)

    def wait_for_stream(self, handle: int) -> None:
        """Let all work to come wait for what is now in a stream of another library."""
        with self.context:
            self._library.wait_for_stream(self.open_handle, handle)

    def begin_capture(self) -> None:
        """Record work into a graph from now on, instead of doing it."""
        with self.context:
            self._library.begin_capture(self.open_handle)

    def end_capture(self) -> Graph:
        """End the recording."""
        with self.context:
            return CudaGraph(self.context, self._library, self._library.end_capture(self.open_handle))

    def synchronize(self) -> None:
        """Wait until all work is done."""
        with self.context:
            self._library.synchronize_stream(self.open_handle)


class CudaDriver(Closing):
    """CUDA on one GPU, through a library."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._context = Context(library)
        holder = object()
        self._context.hold(holder)
        self._finalizer = weakref.finalize(self, self._context.drop, holder)
        self._finalizer.atexit = False

    @property
    def name(self) -> str:
        """`cuda-python` or `pycuda`."""
        return self._library.name

    @property
    def version(self) -> str:
        """Of the library."""
        return self._library.version

    @property
    def device(self) -> DeviceInfo:
        """The GPU."""
        return self._library.device

    @property
    def captures_graphs(self) -> bool:
        """Whether streams can be captured."""
        return self._library.captures_graphs

    @property
    def marks_all_work(self) -> bool:
        """Whether all work can be marked at once."""
        return self._library.marks_all_work

    def current(self) -> AbstractContextManager[None]:
        """Make the context current on this thread while it lasts."""
        return self._open_context()

    def allocate(self, size_bytes: int) -> CudaMemory:
        """Memory of the GPU."""
        return CudaMemory(self._open_context(), self._library, size_bytes)

    def allocate_host(self, size_bytes: int, *, mapped: bool = False) -> CudaHostMemory:
        """Page-locked memory."""
        return CudaHostMemory(self._open_context(), self._library, size_bytes, mapped)

    def stream(self, *, priority: int = 0) -> CudaStream:
        """A stream that does not wait for CUDA's default stream."""
        return CudaStream(self._open_context(), self._library, priority)

    def event(self, *, timing: bool = False, blocking: bool = False) -> CudaEvent:
        """An event."""
        return CudaEvent(self._open_context(), self._library, timing, blocking)

    def memory(self) -> tuple[int, int]:
        """Free and total bytes of the GPU."""
        with self._open_context():
            return self._library.memory()

    def mark_all_work(self, event: Event) -> None:
        """Put a mark behind all that this process gave the GPU so far."""
        context = self._open_context()
        marked = made_in(context, event, CudaEvent, "driver")
        with CAPTURING, context:
            self._library.mark_all_work(marked.open_handle)

    def synchronize(self) -> None:
        """Wait for everything that this process gave the GPU."""
        with CAPTURING, self._open_context():
            self._library.synchronize()

    @property
    def live(self) -> dict[str, int]:
        """What was made and is not freed."""
        return self._context.live

    def _open_context(self) -> Context:
        if not self._finalizer.alive:
            raise DeviceError(CLOSED_DRIVER)
        return self._context

    def close(self) -> None:
        """Give up the context, once nothing that was made with it is left."""
        self._finalizer()


def _check_size(size_bytes: int) -> None:
    if size_bytes < 1:
        raise InputError(f"{size_bytes} bytes, expected at least one")


def _check_bytes(value: Bytes) -> None:
    if not isinstance(value, np.ndarray):
        raise InputError(f"bytes to copy are {type_of(value)}, expected a NumPy array")
    if value.dtype != np.uint8 or not value.flags.c_contiguous or not value.size:
        raise InputError(
            f"bytes to copy are {value.dtype}{list(value.shape)}"
            f"{'' if value.flags.c_contiguous else ', not contiguous'}, expected contiguous uint8; "
            "copy to and from a view of page-locked memory, memory.array[:n]"
        )
