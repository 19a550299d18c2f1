"""Results that stay on the GPU, in memory of their own that PyTorch, CuPy and pycuda use without a copy."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from math import prod
from typing import Any, NoReturn

import numpy as np
from numpy.typing import DTypeLike, NDArray

from pixelrt.closing import Closing
from pixelrt.cuda.dlpack import DeviceType, lend
from pixelrt.cuda.protocol import DeviceMemory, Driver, Event, Stream
from pixelrt.errors import DeviceError, InputError, OutOfMemory
from pixelrt.tensors import Shape

_DEFAULT_STREAM = 0
_NO_ORDER = -1
_DEFAULT_STREAMS = (None, 0, 1)
_MAX_FREE = 16
_MAX_RESTING = 8


@dataclass(slots=True, eq=False)
class _Block:
    """Memory of the pool, and who outside may still be reading it after it came back."""

    memory: DeviceMemory
    seen_by_default_stream: bool = False
    seen_by_other_stream: bool = False


class _Returns:
    """Where blocks come back, in the middle of anything, when garbage is collected: so without a lock."""

    def __init__(self) -> None:
        self.blocks: deque[_Block] = deque()
        self.closed = False

    def put(self, block: _Block) -> None:
        """Keep a block for later, or free it if nobody will come for it."""
        self.blocks.append(block)
        if self.closed:
            for each in self.take():
                each.memory.close()

    def take(self) -> Iterator[_Block]:
        """Take all blocks, each once, whoever else does the same."""
        with suppress(IndexError):
            while True:
                yield self.blocks.popleft()


class _Lease:
    """Keeps a block in use. The block is returned when the last reference to this is gone."""

    __slots__ = ("__weakref__", "block", "writer")

    def __init__(self, block: _Block, writer: Stream) -> None:
        self.block = block
        self.writer: Stream | None = writer
        """Until it was waited for."""


class _Region:
    """Memory of a lease as NumPy wants it described; an array made of it keeps the lease."""

    def __init__(self, array: DeviceArray, lease: _Lease) -> None:
        self.__array_interface__ = {
            "shape": array.shape,
            "typestr": array.dtype.str,
            "data": (array.address, False),
            "version": 3,
        }
        self.lease = lease


class DeviceArray(Closing):
    """A result on the GPU. It belongs to whoever holds it: no later frame overwrites it.

    Other libraries take it where it is: `torch.from_dlpack(array)`, `torch.as_tensor(array)`,
    `cupy.from_dlpack(array)`, `cupy.asarray(array)`, or as an argument of a pycuda kernel. What they make of
    it keeps the memory. Once that and this are gone, a later result may get the memory, after what was then
    enqueued in CUDA's default stream and, if the array was taken through DLPack for another stream, in that
    one. Work in other streams, on what `__cuda_array_interface__` gave, must end before the array is let go.

    Made by `DeviceMemoryPool.array`. It may be used from any thread.
    """

    __slots__ = ("__weakref__", "_address", "_by_interface", "_dtype", "_lease", "_pool", "_shape")

    def __init__(self, pool: DeviceMemoryPool, lease: _Lease, shape: Shape, dtype: np.dtype[Any]) -> None:
        self._shape = shape
        self._dtype = dtype
        self._address = lease.block.memory.address
        self._pool = pool
        self._lease: _Lease | None = lease
        self._by_interface = False

    @property
    def shape(self) -> Shape:
        """How many elements along each axis; see `reshaped`."""
        return self._shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of its elements."""
        return self._dtype

    @property
    def address(self) -> int:
        """Where it begins, for the GPU."""
        return self._address

    @property
    def size_bytes(self) -> int:
        """How much it holds."""
        return prod(self._shape) * self._dtype.itemsize

    @property
    def closed(self) -> bool:
        """Whether the memory was given up."""
        return self._lease is None

    def complete(self) -> None:
        """Say that it is written: its stream was waited for. From now on nobody waits for that stream."""
        if self._lease is not None:
            self._lease.writer = None

    def reshaped(self, shape: Shape) -> DeviceArray:
        """The same memory seen in another shape. Each of both keeps it, and is closed on its own.

        Args:
            shape: As many elements as there are.

        Raises:
            InputError: If it holds another number of elements, or this is closed.
        """
        lease = self._open_lease()
        if min(shape, default=1) < 1 or prod(shape) != prod(self._shape):
            raise InputError(
                f"the shape {tuple(shape)} for an array of {list(self._shape)}, expected {prod(self._shape)} "
                "elements in axes of at least 1"
            )
        return DeviceArray(self._pool, lease, tuple(shape), self._dtype)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """Version 3, https://nvidia.github.io/numba-cuda/user/cuda_array_interface.html.

        It says that all is done, and waits until it is: PyTorch would not look at a stream.
        """
        self._open_lease().block.seen_by_default_stream = True
        self._by_interface = True
        self._wait()
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self.address, False),
            "strides": None,
            "stream": None,
            "version": 3,
        }

    def __dlpack_device__(self) -> tuple[int, int]:
        """Type and index of the GPU, as DLPack counts them."""
        return self._pool.dlpack_device

    def __dlpack__(
        self,
        *,
        stream: int | None = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> Any:
        """Lend it, as https://dmlc.github.io/dlpack/latest/python_spec.html wants it.

        Args:
            stream: Will use it; None or 1 for CUDA's default stream, -1 if the borrower sees to the order.
            max_version: The newest layout that the borrower knows.
            dl_device: Where it wants it; only where it is.
            copy: Whether it wants a copy; only without.

        Raises:
            BufferError: If it is wanted on another device, or copied.
            InputError: If it is closed.
        """
        lease = self._open_lease()
        device = self.__dlpack_device__()
        if dl_device is not None and (int(dl_device[0]), int(dl_device[1])) != device:
            raise BufferError(
                f"this is on device {device}, not on {tuple(dl_device)}; copy it with to_host()"
            )
        if copy:
            raise BufferError("this lends its memory and makes no copy; copy what is made of it")
        if stream != _NO_ORDER:
            self._wait()
        if stream in _DEFAULT_STREAMS:
            lease.block.seen_by_default_stream = True
        else:
            lease.block.seen_by_other_stream = True
        return lend(np.asarray(_Region(self, lease)), device, max_version)

    def to_host(self) -> NDArray[Any]:
        """Wait for it, and copy it to main memory. Takes page-locked memory for the duration.

        Raises:
            DeviceError: If its session is closed, or the GPU has failed.
            InputError: If it is closed.
        """
        self._open_lease()
        self._wait()
        driver, size = self._pool.driver, self.size_bytes
        with driver.stream() as stream, driver.allocate_host(size) as host:
            stream.copy_to_host(host.array[:size], self.address)
            stream.synchronize()
            found: NDArray[Any] = host.array[:size].copy().view(self.dtype).reshape(self.shape)
        return found

    def close(self) -> None:
        """Give up the memory now. A second time does nothing.

        What was taken through DLPack keeps it. If `__cuda_array_interface__` was ever read, the memory stays
        until this is garbage, since what was made of it holds this and nothing else.
        """
        if not self._by_interface:
            self._lease = None

    def __array__(self, dtype: object = None, copy: bool | None = None) -> NoReturn:
        raise TypeError("this is on the GPU, and NumPy is not; copy it with to_host()")

    def __repr__(self) -> str:
        state = ", closed" if self.closed else ""
        return f"DeviceArray({self.dtype}{list(self.shape)} at {self.address:#x}{state})"

    def _wait(self) -> None:
        """Wait until it is written, here: `Driver` cannot make a stream of another library wait."""
        writer = self._open_lease().writer
        if writer is not None:
            writer.synchronize()
            self.complete()

    def _open_lease(self) -> _Lease:
        lease = self._lease
        if lease is None:
            raise InputError(
                "this array on the GPU is closed; use it before close(), or copy it with to_host()"
            )
        return lease


class _Resting:
    """Blocks that streams of others may still be reading, until a mark behind all work says that they do not.

    Those streams may exist no more, so that nothing can be put into them: it takes a mark behind whatever the
    GPU was given, or a wait for all of it.

    Args:
        driver: Marks, or waits where it cannot mark.
    """

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._unmarked: list[_Block] = []
        self._marked: list[_Block] = []
        self._mark: Event | None = None

    @property
    def blocks(self) -> tuple[_Block, ...]:
        """All."""
        return (*self._marked, *self._unmarked)

    def put(self, block: _Block) -> None:
        """One more."""
        self._unmarked.append(block)

    def take(self) -> Iterator[_Block]:
        """Take those that nobody reads any more. Waits only if the GPU is far behind or cannot mark."""
        if self._mark is not None and self._marked and self._mark.done:
            yield from self._take_marked()
        if len(self._unmarked) < _MAX_RESTING:
            return
        if not self._driver.marks_all_work:
            yield from self.take_all()
            return
        mark = self._mark = self._mark or self._driver.event()
        if self._marked:
            mark.synchronize()
            yield from self._take_marked()
        self._driver.mark_all_work(mark)
        self._marked, self._unmarked = self._unmarked, []

    def take_all(self) -> Iterator[_Block]:
        """Wait for the GPU, and take all."""
        if self.blocks:
            self._driver.synchronize()
        self._marked, self._unmarked = [*self.blocks], []
        yield from self._take_marked()

    def abandon(self) -> tuple[_Block, ...]:
        """Take all without a wait, to free them: CUDA waits then."""
        blocks, self._marked, self._unmarked = self.blocks, [], []
        return blocks

    def close(self) -> None:
        """Free the mark."""
        if self._mark is not None:
            self._mark.close()

    def _take_marked(self) -> Iterator[_Block]:
        blocks, self._marked = self._marked, []
        for block in blocks:
            block.seen_by_default_stream = block.seen_by_other_stream = False
            yield block


class DeviceMemoryPool(Closing):
    """Memory for results. What is returned is given out again, so that a frame costs no allocation.

    It is a context manager, and may be used from any thread.

    Args:
        driver: Allocates. It is not closed by this.
        dlpack_device: What arrays say of where they are, type and index; None for the driver's GPU. Only a
            driver that imitates a GPU in main memory needs another, `(1, 0)`.
    """

    def __init__(self, driver: Driver, *, dlpack_device: tuple[int, int] | None = None) -> None:
        self.driver = driver
        self.dlpack_device = dlpack_device or (int(DeviceType.CUDA), driver.device.index)
        self._lock = threading.Lock()
        self._returns = _Returns()
        self._free: list[_Block] = []
        self._resting = _Resting(driver)

    def array(self, shape: Shape, dtype: DTypeLike, writer: Stream) -> DeviceArray:
        """Take an array whose content is undefined.

        Args:
            shape: At least one element.
            dtype: Of its elements.
            writer: The only stream that will write it; all work to come in it waits for those that may still
                read what was in the memory before. Call `DeviceArray.complete` when it was waited for.

        Raises:
            OutOfMemory: If the GPU has none left, with all that the pool keeps given up.
            DeviceError: If the pool is closed.
        """
        kind = np.dtype(dtype)
        with self._lock:
            if self._returns.closed:
                raise DeviceError("the pool of this session's results is closed; open the session again")
            self._collect()
            block = self._take(prod(shape) * kind.itemsize)
            if block.seen_by_default_stream:
                writer.wait_for_stream(_DEFAULT_STREAM)
                block.seen_by_default_stream = False
        lease = _Lease(block, writer)
        # Nothing is freed when the interpreter ends: others may still hold the memory.
        weakref.finalize(lease, self._returns.put, block).atexit = False
        return DeviceArray(self, lease, tuple(shape), kind)

    @property
    def free_bytes(self) -> int:
        """What is kept and in no array."""
        with self._lock:
            blocks = (*self._free, *self._resting.blocks, *self._returns.blocks)
        return sum(block.memory.size_bytes for block in blocks)

    def trim(self) -> None:
        """Free all that is in no array. Waits for the GPU if other streams may still be reading it."""
        with self._lock:
            self._trim()

    def close(self) -> None:
        """Free all that is in no array now; the rest is freed with its arrays. A second time does nothing."""
        with self._lock:
            self._returns.closed = True
            try:
                self._trim()
            finally:
                self._resting.close()

    def _collect(self) -> None:
        """Make what came back free, as soon as no stream but the default one can still be reading it."""
        self._sort()
        self._free.extend(self._resting.take())
        while len(self._free) > _MAX_FREE:
            self._free.pop(0).memory.close()

    def _sort(self) -> None:
        for block in self._returns.take():
            if block.seen_by_other_stream:
                self._resting.put(block)
            else:
                self._free.append(block)

    def _take(self, size_bytes: int) -> _Block:
        for index, block in enumerate(self._free):
            if block.memory.size_bytes == size_bytes:
                return self._free.pop(index)
        try:
            return _Block(self.driver.allocate(size_bytes))
        except OutOfMemory:
            self._trim()
            return _Block(self.driver.allocate(size_bytes))

    def _trim(self) -> None:
        try:
            self._sort()
            self._free.extend(self._resting.take_all())
        finally:
            blocks = (*self._free, *self._resting.abandon())
            self._free = []
            for block in blocks:
                block.memory.close()
