"""Memory and events of a simulated GPU."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelrt.cuda.protocol import Event
from pixelrt.errors import DeviceError, InputError
from pixelrt.testing.capture import CapturedMark
from pixelrt.testing.gpu import Gpu, Resource, fake
from pixelrt.testing.memory import Block
from pixelrt.testing.simulation import Operation

Bytes = NDArray[np.uint8]


class FakeDeviceMemory(Resource):
    """Device memory; see `pixelrt.cuda.protocol.DeviceMemory`."""

    kind = "device memory"

    def __init__(self, gpu: Gpu, block: Block) -> None:
        super().__init__(gpu)
        self._block = block

    @property
    def address(self) -> int:
        """Where it begins."""
        self.check_open()
        return self._block.address

    @property
    def size_bytes(self) -> int:
        """How much there is."""
        return int(self._block.array.size)

    @property
    def content(self) -> Bytes:
        """What is in it now, for a test's eyes, without the work that is still to be done."""
        self.check_open()
        return self._block.array

    def _free(self) -> None:
        self.gpu.free(self._block)


class FakeHostMemory(Resource):
    """Page-locked memory; see `pixelrt.cuda.protocol.HostMemory`. An array of it keeps it alive."""

    kind = "host memory"

    def __init__(self, gpu: Gpu, block: Block) -> None:
        super().__init__(gpu)
        self._block = block

    @property
    def array(self) -> Bytes:
        """All of it. After `close`, views of it show 0xDD."""
        return np.asarray(self)

    @property
    def __array_interface__(self) -> dict[str, Any]:
        self.check_open()
        return dict(self._block.array.__array_interface__)

    @property
    def size_bytes(self) -> int:
        """How much there is."""
        return int(self._block.array.size)

    @property
    def device_address(self) -> int | None:
        """Where the GPU sees it, if it is mapped."""
        self.check_open()
        return self._block.address if self._block.visible else None

    def _free(self) -> None:
        self.gpu.free(self._block)


class FakeEvent(Resource):
    """An event; see `pixelrt.cuda.protocol.Event`."""

    kind = "event"

    def __init__(self, gpu: Gpu, *, timing: bool, blocking: bool) -> None:
        super().__init__(gpu)
        self.timing = timing
        self.blocking = blocking
        self.mark: Operation | CapturedMark | None = None

    def synchronize(self) -> None:
        """Wait for it; see `Event.synchronize`."""
        with self.gpu.call("Event.synchronize", in_capture=False):
            mark = self.recorded()
            if mark is not None:
                self.gpu.simulation.finish([mark])

    @property
    def done(self) -> bool:
        """Whether the stream has come to it. Each no lets the GPU do one more thing."""
        with self.gpu.call("Event.done"):
            mark = self.recorded()
            return mark is None or self.gpu.simulation.poll(mark)

    def elapsed_ms(self, since: Event) -> float:
        """Simulated time from another event to this one; see `Event.elapsed_ms`."""
        with self.gpu.call("Event.elapsed_ms"):
            end, start = _timed(self), _timed(fake(since, FakeEvent, self.gpu))
            return end.end_ms - start.end_ms

    def recorded(self) -> Operation | None:
        """The mark of its latest recording, which can be waited for.

        Raises:
            DeviceError: If it was recorded in a capture, or is closed.
        """
        self.check_open()
        if isinstance(self.mark, CapturedMark):
            raise self.mark.capture.refuse("an event that was recorded in a capture cannot be waited for")
        return self.mark


def _timed(event: FakeEvent) -> Operation:
    event.check_open()
    if not event.timing:
        raise InputError("time between events that were not made with timing=True")
    mark = event.recorded()
    if mark is None or not mark.done:
        raise DeviceError(f"the event {'was never recorded' if mark is None else 'is not done yet'}")
    return mark
