"""Memory of a slot: one buffer per input and output, on both sides of the bus."""

from __future__ import annotations

import math
import threading
import weakref
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelrt.cuda.interop import ALIGNMENT_BYTES
from pixelrt.cuda.protocol import Bytes, DeviceMemory, Driver, HostMemory
from pixelrt.pipeline.options import GpuOptions
from pixelrt.tensors import Shape


class Buffer:
    """Page-locked memory of the host and its counterpart on the GPU, or one memory that both use.

    It grows when a larger shape comes, and never shrinks.
    """

    def __init__(self, driver: Driver, *, shared: bool) -> None:
        self.shared = shared
        self._driver = driver
        self._host: HostMemory | None = None
        self._device: DeviceMemory | None = None
        self._size_bytes = 0
        self._used_bytes = 0
        self._array: NDArray[Any] = np.empty(0, np.uint8)

    def fit(self, dtype: np.dtype[Any], shape: Shape) -> None:
        """Take this type and shape. Whoever uses the memory must have finished.

        Raises:
            OutOfMemory: If there is not enough; the buffer is then empty.
        """
        self._used_bytes = math.prod(shape) * dtype.itemsize
        if self._used_bytes > self._size_bytes:
            self.close()
            self._allocate(self._used_bytes)
        assert self._host is not None
        self._array = self._host.array[: self._used_bytes].view(dtype).reshape(shape)

    def _allocate(self, size_bytes: int) -> None:
        self._host = self._driver.allocate_host(size_bytes, mapped=self.shared)
        if not self.shared:
            self._device = self._driver.allocate(size_bytes)
        self._size_bytes = size_bytes

    @property
    def array(self) -> NDArray[Any]:
        """The host's side, in the type and shape of `fit`."""
        return self._array

    @property
    def bytes(self) -> Bytes:
        """The host's side as plain bytes."""
        assert self._host is not None
        return self._host.array[: self._used_bytes]

    @property
    def used_bytes(self) -> int:
        """How much of it the shape of `fit` takes."""
        return self._used_bytes

    @property
    def address(self) -> int:
        """The GPU's side."""
        if self._device is not None:
            return self._device.address
        assert self._host is not None
        assert self._host.device_address is not None
        return self._host.device_address

    def close(self) -> None:
        """Free it; `fit` allocates anew."""
        self._array = np.empty(0, np.uint8)
        self._size_bytes = 0
        for memory in (self._host, self._device):
            if memory is not None:
                memory.close()
        self._host = self._device = None


def zero_copy(driver: Driver, options: GpuOptions) -> bool:
    """Whether the GPU shall work in the host's memory, so that nothing is copied."""
    if options.zero_copy is not None:
        return options.zero_copy
    return driver.device.integrated and driver.device.maps_host_memory


@dataclass(frozen=True, slots=True)
class Place:
    """Page-locked bytes of the caller's."""

    content: Bytes
    device_address: int
    """Where the GPU sees them, if they are mapped."""

    @property
    def is_aligned(self) -> bool:
        """Whether a network can be bound to them."""
        return self.device_address % ALIGNMENT_BYTES == 0


class PinnedFrames:
    """Page-locked arrays that were given to the caller to fill: the GPU copies straight from them.

    An array owns its memory, which is freed with the last view of it, whatever becomes of the session. Clones
    of a session share this, each from its thread.
    """

    def __init__(self, driver: Driver, options: GpuOptions) -> None:
        self._driver = driver
        self.zero_copy = zero_copy(driver, options)
        self._given: weakref.WeakSet[_Pinned] = weakref.WeakSet()
        self._lock = threading.Lock()

    def make(self, dtype: np.dtype[Any], shape: Shape) -> NDArray[Any]:
        """A page-locked array of undefined content.

        Raises:
            OutOfMemory: If the host has no more memory to lock.
        """
        size_bytes = max(1, math.prod(shape) * dtype.itemsize)
        pinned = _Pinned(self._driver.allocate_host(size_bytes, mapped=self.zero_copy))
        with self._lock:
            self._given.add(pinned)
        return np.asarray(pinned)[: math.prod(shape) * dtype.itemsize].view(dtype).reshape(shape)

    def find(self, value: NDArray[Any]) -> Place | None:
        """Where an array lies in one of these; None if it does not, or is not contiguous."""
        if not value.flags.c_contiguous:
            return None
        start = value.__array_interface__["data"][0]
        with self._lock:
            given = tuple(self._given)
        for pinned in given:
            offset = start - pinned.start
            if offset >= 0 and offset + value.nbytes <= pinned.memory.size_bytes:
                part = pinned.memory.array[offset : offset + value.nbytes]
                return Place(part, (pinned.memory.device_address or 0) + offset)
        return None


class _Pinned:
    """What NumPy keeps alive as long as there is a view."""

    def __init__(self, memory: HostMemory) -> None:
        self.memory = memory
        self.__array_interface__ = memory.array.__array_interface__
        self.start: int = self.__array_interface__["data"][0]
