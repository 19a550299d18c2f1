"""What PixelRT needs of CUDA, and no more: memory, copies, streams, events and graphs of one GPU.

Two libraries offer it, cuda-python and pycuda, and `pixelrt.testing` imitates it in main memory. Addresses on
the GPU are plain integers, memory of the host is a NumPy array.

Everything that is made here is a context manager, owns what it stands for, and frees it in `close` (twice
is allowed) or at the latest when it is garbage; `Driver.live` counts what is not freed yet. Every call may
come from any thread: it makes the GPU's primary context current for its own duration, the context that
PyTorch and the CUDA runtime use too.

Every call may raise `OutOfMemory`, `ContextLost`, `DeviceLost` or another `DeviceError`.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceInfo:
    """A GPU."""

    index: int
    """As CUDA_VISIBLE_DEVICES numbers them."""
    name: str
    compute_capability: tuple[int, int]
    total_bytes: int
    integrated: bool
    """It shares the host's memory, as on a Jetson: mapped memory then saves every copy."""
    maps_host_memory: bool
    driver_version: tuple[int, int]
    """The newest CUDA that the installed driver speaks."""

    @property
    def target(self) -> str:
        """The compute capability in short, `sm87`."""
        major, minor = self.compute_capability
        return f"sm{major}{minor}"


class Resource(Protocol):
    """Something of CUDA that is freed."""

    def close(self) -> None:
        """Free it. A second time does nothing."""
        ...

    def __enter__(self) -> Any: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class DeviceMemory(Resource, Protocol):
    """Memory of the GPU, aligned to at least 256 bytes."""

    @property
    def address(self) -> int:
        """Where it begins, for the GPU."""
        ...

    @property
    def size_bytes(self) -> int:
        """How much there is."""
        ...


class HostMemory(Resource, Protocol):
    """Page-locked memory of the host: the only kind that the GPU copies from and to on its own."""

    @property
    def array(self) -> Bytes:
        """All of it, uint8[size_bytes]. It, and every view of it, is invalid after `close`."""
        ...

    @property
    def size_bytes(self) -> int:
        """How much there is."""
        ...

    @property
    def device_address(self) -> int | None:
        """Where the GPU sees it, if it was allocated as mapped."""
        ...


class Event(Resource, Protocol):
    """A mark in a stream."""

    def synchronize(self) -> None:
        """Wait until the stream has come to it. Returns at once if it was never recorded."""
        ...

    @property
    def done(self) -> bool:
        """Whether the stream has come to it."""
        ...

    def elapsed_ms(self, since: Event) -> float:
        """GPU time from another event to this one, both made with `timing`, recorded and done."""
        ...


class Graph(Resource, Protocol):
    """Work that was captured from a stream, with the addresses that it had then."""

    def launch(self, stream: Stream) -> None:
        """Put it into a stream."""
        ...


class Stream(Resource, Protocol):
    """Work that the GPU does in order. None of the calls waits for the GPU, but for `synchronize`."""

    @property
    def handle(self) -> int:
        """The `cudaStream_t`, for TensorRT and ONNX Runtime."""
        ...

    def copy_to_device(self, target: int, source: Bytes) -> None:
        """Copy contiguous page-locked bytes to the GPU. They must stay as they are meanwhile."""
        ...

    def copy_to_host(self, target: Bytes, source: int) -> None:
        """Fill contiguous page-locked bytes from an address on the GPU."""
        ...

    def copy_on_device(self, target: int, source: int, size_bytes: int) -> None:
        """Copy from one address on the GPU to another."""
        ...

    def record(self, event: Event) -> None:
        """Put a mark behind all work so far."""
        ...

    def wait(self, event: Event) -> None:
        """Let all work to come wait for the latest recording of an event. None was recorded: no wait."""
        ...

    def wait_for_stream(self, handle: int) -> None:
        """Let all work to come wait for what is now in a stream of another library (0: CUDA's default)."""
        ...

    def begin_capture(self) -> None:
        """Record work into a graph from now on, instead of doing it, while `capturing.CAPTURING` is held.

        Raises:
            DeviceError: If the library behind has no graphs, see `Driver.captures_graphs`.
        """
        ...

    def end_capture(self) -> Graph:
        """End the recording.

        Raises:
            DeviceError: If something in between cannot be captured. The stream works normally again.
        """
        ...

    def synchronize(self) -> None:
        """Wait until all work is done."""
        ...


class Driver(Resource, Protocol):
    """CUDA on one GPU, through one library. Closing it frees the context, not what was made with it."""

    @property
    def name(self) -> str:
        """`cuda-python`, `pycuda`, or `fake`."""
        ...

    @property
    def version(self) -> str:
        """Of the library."""
        ...

    @property
    def device(self) -> DeviceInfo:
        """The GPU."""
        ...

    @property
    def captures_graphs(self) -> bool:
        """Whether streams can be captured."""
        ...

    @property
    def marks_all_work(self) -> bool:
        """Whether there is `mark_all_work`: with cuda-python, where the installed driver speaks CUDA 12.5."""
        ...

    def current(self) -> AbstractContextManager[None]:
        """Make the context current on this thread while it lasts, for calls of TensorRT and others.

        Nests, and costs next to nothing where it is current already.
        """
        ...

    def allocate(self, size_bytes: int) -> DeviceMemory:
        """Memory of the GPU, at least one byte."""
        ...

    def allocate_host(self, size_bytes: int, *, mapped: bool = False) -> HostMemory:
        """Page-locked memory, at least one byte; `mapped` lets the GPU read and write it where it is."""
        ...

    def stream(self, *, priority: int = 0) -> Stream:
        """A stream that does not wait for CUDA's default one. Lower numbers go first; CUDA clamps them."""
        ...

    def event(self, *, timing: bool = False, blocking: bool = False) -> Event:
        """An event. `blocking` lets `synchronize` sleep instead of spin: a core less, some 50 us more."""
        ...

    def memory(self) -> tuple[int, int]:
        """Free and total bytes of the GPU."""
        ...

    def mark_all_work(self, event: Event) -> None:
        """Put a mark behind all that this process gave the GPU so far, in whatever stream.

        Raises:
            DeviceError: If this thread is capturing, or there is no such thing, see `marks_all_work`.
        """
        ...

    def synchronize(self) -> None:
        """Wait for everything that this process gave the GPU, and before that for captures of other threads.

        Raises:
            DeviceError: If this thread is capturing.
        """
        ...

    @property
    def live(self) -> dict[str, int]:
        """What was made and is not freed: `device memory`, `host memory`, `stream`, `event`, `graph`."""
        ...
