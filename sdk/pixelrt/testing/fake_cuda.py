"""CUDA without a GPU: `FakeCuda` is a driver that keeps its promises, and no others."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pixelrt.closing import Closing
from pixelrt.cuda.capturing import CAPTURING
from pixelrt.cuda.protocol import DeviceInfo, Driver, Event
from pixelrt.errors import DeviceError, InputError
from pixelrt.testing.gpu import Gpu, fake
from pixelrt.testing.memory import Kind, Memory
from pixelrt.testing.resources import FakeDeviceMemory, FakeEvent, FakeHostMemory
from pixelrt.testing.simulation import Order, Simulation, Span, Work
from pixelrt.testing.stream import FakeStream

Bytes = NDArray[np.uint8]
_LIVE = ("device memory", "host memory", "stream", "event", "graph")


class FakeCuda(Closing):
    """A GPU in main memory, for tests. It is a `Driver`, see `pixelrt.cuda.protocol`.

    Device memory, page-locked memory and mapped memory are real memory at real addresses, filled with 0xA5,
    each allocation apart from the others: a copy that was forgotten shows. Work is deferred, and done in an
    order that CUDA allows and a program does not expect:

    - `lazy` does nothing before somebody waits for it, then only what that needs, and among that the latest
      first. It finds programs that read results or change frames too early, and waits between streams that
      are missing.
    - `eager` does everything at once. It finds programs that fill a buffer after they had it copied, or that
      let the next result overwrite one that is still in use.
    - `random` does some of it now and then; `seed` chooses.

    In every order `DataRaceError` is raised where two operations use the same memory and nothing orders them.

    Time is simulated. Each of the engines `up`, `compute` and `down` does one thing at a time, a call costs
    the host nothing, and `timeline` says what was done when.
    """

    name = "fake"
    version = "1"

    def __init__(
        self,
        *,
        order: Order = "lazy",
        seed: int = 0,
        memory_bytes: int = 8 << 30,
        integrated: bool = False,
        captures_graphs: bool = True,
        copy_gb_per_s: float = 12.0,
        fail_capture: str = "",
        check_races: bool = True,
    ) -> None:
        """Make a GPU.

        Args:
            order: When work is done.
            seed: For the order `random`.
            memory_bytes: How much memory it has.
            integrated: It shares the host's memory, as on a Jetson: `memory_bytes` holds both kinds.
            captures_graphs: False for a library without graphs and `mark_all_work`, such as pycuda.
            copy_gb_per_s: How fast each copy engine is, in simulated time.
            fail_capture: Why every capture fails at its end; empty if it shall not.
            check_races: Whether to raise `DataRaceError`.

        Raises:
            InputError: If the order is unknown or a figure is not above 0.
        """
        if memory_bytes < 1 or copy_gb_per_s <= 0:
            raise InputError(
                f"memory_bytes is {memory_bytes} and copy_gb_per_s is {copy_gb_per_s}, expected more than 0"
            )
        self.device = DeviceInfo(
            index=0,
            name="fake GPU",
            compute_capability=(8, 7) if integrated else (8, 6),
            total_bytes=memory_bytes,
            integrated=integrated,
            maps_host_memory=True,
            driver_version=(13, 0),
        )
        self.gpu = Gpu(
            simulation=Simulation(order=order, seed=seed, check_races=check_races),
            memory=Memory(memory_bytes, shared=integrated),
            copy_gb_per_s=copy_gb_per_s,
            captures_graphs=captures_graphs,
            fail_capture=fail_capture,
        )
        """What the objects of this driver share; nothing for tests."""
        self._local = threading.local()
        self.default_stream = FakeStream(self.gpu, handle=0)
        """CUDA's default stream, in which another library may have put work."""

    def __repr__(self) -> str:
        return f"FakeCuda(order={self.gpu.simulation.order!r}, live={self.live})"

    # --- the protocol ---------------------------------------------------------------------------------------

    @contextmanager
    def current(self) -> Iterator[None]:
        """Make the context current on this thread; see `Driver.current` and `is_current`."""
        if self.gpu.closed:
            raise DeviceError("Driver.current: the driver is closed")
        self._local.depth = getattr(self._local, "depth", 0) + 1
        try:
            yield
        finally:
            self._local.depth -= 1

    def allocate(self, size_bytes: int) -> FakeDeviceMemory:
        """Memory of the GPU; see `Driver.allocate`."""
        with self.gpu.call("Driver.allocate", in_capture=False):
            return FakeDeviceMemory(self.gpu, self.gpu.memory.allocate(size_bytes, "device memory"))

    def allocate_host(self, size_bytes: int, *, mapped: bool = False) -> FakeHostMemory:
        """Page-locked memory; see `Driver.allocate_host`."""
        with self.gpu.call("Driver.allocate_host", in_capture=False):
            kind: Kind = "mapped host memory" if mapped else "host memory"
            return FakeHostMemory(self.gpu, self.gpu.memory.allocate(size_bytes, kind))

    def stream(self, *, priority: int = 0) -> FakeStream:
        """A stream; see `Driver.stream`. The priority is kept and changes nothing."""
        with self.gpu.call("Driver.stream"):
            return FakeStream(self.gpu, handle=0x10 + self.gpu.made["stream"], priority=priority)

    def event(self, *, timing: bool = False, blocking: bool = False) -> FakeEvent:
        """An event; see `Driver.event`."""
        with self.gpu.call("Driver.event"):
            return FakeEvent(self.gpu, timing=timing, blocking=blocking)

    def memory(self) -> tuple[int, int]:
        """Free and total bytes."""
        with self.gpu.call("Driver.memory"):
            return self.gpu.memory.total_bytes - self.gpu.memory.used_bytes, self.gpu.memory.total_bytes

    def mark_all_work(self, event: Event) -> None:
        """Put a mark behind all work; see `Driver.mark_all_work`."""
        with CAPTURING, self.gpu.call("Driver.mark_all_work", in_capture=False):
            if not self.marks_all_work:
                raise DeviceError("this driver cannot mark all work at once; see marks_all_work")
            marked = fake(event, FakeEvent, self.gpu)
            marked.check_open()
            marked.mark = self.gpu.simulation.put_behind_all(Work(label="mark of all work"))

    def synchronize(self) -> None:
        """Wait for everything; see `Driver.synchronize`."""
        with CAPTURING, self.gpu.call("Driver.synchronize", in_capture=False):
            self.gpu.simulation.finish_all()

    def close(self) -> None:
        """Free the context. What was made with it can still be closed, and nothing else."""
        self.gpu.closed = True

    @property
    def captures_graphs(self) -> bool:
        """Whether streams can be captured."""
        return self.gpu.captures_graphs

    @property
    def marks_all_work(self) -> bool:
        """Whether all work can be marked at once."""
        return self.gpu.captures_graphs

    @property
    def live(self) -> dict[str, int]:
        """What was made and is not freed."""
        with self.gpu.lock:
            return {kind: self.gpu.made[kind] - self.gpu.freed[kind] for kind in _LIVE}

    # --- for tests ------------------------------------------------------------------------------------------

    @property
    def timeline(self) -> tuple[Span, ...]:
        """What the engines did, in the order in which they began."""
        with self.gpu.lock:
            return self.gpu.simulation.timeline

    @property
    def now_ms(self) -> float:
        """The host's clock, in simulated time. It moves when the host waits, and in `pass_time`."""
        return self.gpu.simulation.now_ms

    @property
    def num_pending(self) -> int:
        """How many operations are still to be done."""
        return self.gpu.simulation.num_pending

    @property
    def is_current(self) -> bool:
        """Whether this thread is inside `current()`."""
        return getattr(self._local, "depth", 0) > 0

    def pass_time(self, duration_ms: float) -> None:
        """Let the host do something else for a while: the camera's next frame has not come yet.

        Raises:
            InputError: If the duration is negative.
        """
        with self.gpu.lock:
            self.gpu.simulation.pass_time(duration_ms)

    def fail(self, call: str, error: Exception) -> None:
        """Let the next call of that name raise an error. Several queue up.

        After `ContextLost` or `DeviceLost` every call fails, and only closing works.

        Args:
            call: As in `CALLS`: `Driver.allocate`, `Stream.copy_to_device`, ...
            error: What it shall raise.

        Raises:
            InputError: If there is no such call.
        """
        with self.gpu.lock:
            self.gpu.fail(call, error)

    def view(self, address: int, size_bytes: int) -> Bytes:
        """The bytes at an address that the GPU can use, for an executor's action and for a test's eyes.

        Raises:
            DeviceError: If they are not allocated.
        """
        with self.gpu.lock:
            return self.gpu.memory.on_device(address, size_bytes)


if TYPE_CHECKING:

    def _is_driver(cuda: FakeCuda) -> Driver:
        return cuda
