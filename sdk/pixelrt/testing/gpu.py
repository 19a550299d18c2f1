"""What all objects of a simulated GPU share: its memory, its work, its errors and its lock."""

from __future__ import annotations

import threading
import weakref
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from pixelrt.closing import Closing
from pixelrt.errors import ContextLost, DeviceError, DeviceLost, InputError
from pixelrt.strict import suggestion
from pixelrt.testing.capture import Capture
from pixelrt.testing.memory import Block, Memory
from pixelrt.testing.simulation import Simulation

if TYPE_CHECKING:
    from pixelrt.testing.stream import FakeStream

AnyResource = TypeVar("AnyResource", bound="Resource")
CALLS = (
    "Driver.allocate",
    "Driver.allocate_host",
    "Driver.stream",
    "Driver.event",
    "Driver.memory",
    "Driver.mark_all_work",
    "Driver.synchronize",
    "Stream.copy_to_device",
    "Stream.copy_to_host",
    "Stream.copy_on_device",
    "Stream.run",
    "Stream.record",
    "Stream.wait",
    "Stream.wait_for_stream",
    "Stream.begin_capture",
    "Stream.end_capture",
    "Stream.synchronize",
    "Event.synchronize",
    "Event.done",
    "Event.elapsed_ms",
    "Graph.launch",
)
"""What `FakeCuda.fail` can let fail."""
_OF_ALL_STREAMS = ("Driver.mark_all_work", "Driver.synchronize")


@dataclass(eq=False, slots=True)
class Gpu:
    """The state behind a `FakeCuda`."""

    simulation: Simulation
    memory: Memory
    copy_gb_per_s: float
    captures_graphs: bool
    fail_capture: str
    lock: threading.RLock = field(default_factory=threading.RLock)
    made: Counter[str] = field(default_factory=Counter)
    """How many resources of a kind were ever made."""
    freed: Counter[str] = field(default_factory=Counter)
    captures: list[Capture] = field(default_factory=list)
    streams: weakref.WeakValueDictionary[int, FakeStream] = field(default_factory=weakref.WeakValueDictionary)
    closed: bool = False
    lost: DeviceError | None = None
    """An error after which nothing works."""
    _faults: dict[str, deque[Exception]] = field(default_factory=dict)

    def fail(self, call: str, error: Exception) -> None:
        """Let the next call of that name raise an error.

        Raises:
            InputError: If there is no such call.
        """
        if call not in CALLS:
            known = list(CALLS)
            raise InputError(
                f"there is no call {call!r}{suggestion(call, known)}; expected one of {', '.join(known)}"
            )
        self._faults.setdefault(call, deque()).append(error)

    @contextmanager
    def call(self, name: str, *, in_capture: bool = True) -> Iterator[None]:
        """What every call does first: one at a time, not after an error that lasts, not against a capture."""
        with self.lock:
            if self.closed:
                raise DeviceError(f"{name}: the driver is closed")
            if self.lost is not None:
                raise type(self.lost)(f"{name}: {self.lost}")
            try:
                if self._faults.get(name):
                    raise self._faults[name].popleft()
                if not in_capture:
                    self._refuse_in_capture(name)
                yield
            except (ContextLost, DeviceLost) as problem:
                self.lost = problem
                raise

    def free(self, block: Block) -> None:
        """Give memory back."""
        self.memory.free(block)
        self.simulation.forget(block.address, block.array.size)

    def end(self, capture: Capture) -> None:
        """Give back the streams of a capture."""
        with self.lock:
            capture.ended = True
            self.captures.remove(capture)
            for stream in list(self.streams.values()):
                stream.leave(capture)

    def _refuse_in_capture(self, name: str) -> None:
        """CUDA forbids waits and allocations in the thread that captures, what is of all streams in any."""
        for capture in self.captures:
            if name in _OF_ALL_STREAMS or capture.thread == threading.get_ident():
                raise capture.refuse(f"{name} is not allowed during a capture")


class Resource(Closing):
    """What is freed once, at the latest when it is garbage."""

    kind: str
    closed = True

    def __init__(self, gpu: Gpu) -> None:
        self.gpu = gpu
        self.closed = False
        gpu.made[self.kind] += 1

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Free it. A second time does nothing."""
        if self.closed:
            return
        with self.gpu.lock:
            if not self.closed:
                self.closed = True
                self.gpu.freed[self.kind] += 1
                self._free()

    def check_open(self) -> None:
        """Refuse to use it after `close`.

        Raises:
            DeviceError: If it is closed.
        """
        if self.closed:
            raise DeviceError(f"this {self.kind} is closed")

    def _free(self) -> None:
        return


def fake(given: Any, expected: type[AnyResource], gpu: Gpu) -> AnyResource:
    """What a protocol's argument is here.

    Raises:
        InputError: If it belongs to another driver.
    """
    if not isinstance(given, expected):
        raise InputError(f"{type(given).__name__} came, expected a {expected.__name__} of the fake driver")
    if given.gpu is not gpu:
        raise InputError(f"the {given.kind} belongs to another FakeCuda")
    return given
