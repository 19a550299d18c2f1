"""Frames in memory that a child process reads in place."""

from __future__ import annotations

import math
import mmap
import threading
import weakref
from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

from pixelrt.errors import OutOfMemory
from pixelrt.isolation.protocol import Plane
from pixelrt.isolation.shared import SharedMemory


class FrameBuffers:
    """Hands out frames side by side in one shared memory, for one child after the other.

    The place of a frame whose last view is gone is given to the next one of its size. Any thread may ask.
    """

    def __init__(self) -> None:
        """Take no memory yet.

        Raises:
            OSError: If there are no file descriptors left.
        """
        self._memory = SharedMemory.create("pixelrt-buffers")
        self._end = 0
        self._turn = threading.Lock()
        self._free: defaultdict[int, list[int]] = defaultdict(list)
        self._addresses: dict[int, tuple[int, int]] = {}

    @property
    def descriptor(self) -> int:
        """What a child has to inherit."""
        return self._memory.descriptor

    def make(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """A frame, its content undefined. It stays usable after `close`.

        Raises:
            OutOfMemory: If there is not so much memory.
        """
        size_bytes = math.prod(shape)
        span = -(-size_bytes // mmap.ALLOCATIONGRANULARITY) * mmap.ALLOCATIONGRANULARITY
        with self._turn:
            offset = self._free[span].pop() if self._free[span] else self._extend(span)
        try:
            mapping = mmap.mmap(self.descriptor, span, offset=offset)
        except OSError as problem:
            self._free[span].append(offset)
            raise OutOfMemory(f"a frame buffer of {span >> 10} KiB cannot be mapped: {problem}") from problem
        frame: NDArray[np.uint8] = np.ndarray(shape, np.uint8, mapping)
        self._addresses[offset] = (_address(frame), size_bytes)
        weakref.finalize(mapping, _give_back, offset, self._free[span], self._addresses).atexit = False
        return frame

    def place(self, frame: NDArray[np.uint8]) -> Plane | None:
        """Where a frame lies; None if it lies in no buffer, or not in one piece."""
        if not frame.flags.c_contiguous:
            return None
        first = _address(frame)
        for offset, (address, size_bytes) in list(self._addresses.items()):
            if address <= first and first + frame.nbytes <= address + size_bytes:
                return Plane(frame.dtype.str, frame.shape, offset + first - address)
        return None

    def close(self) -> None:
        """Give the memory back, as soon as no frame is left."""
        self._memory.close()

    def _extend(self, span: int) -> int:
        offset = self._end
        self._memory.hold(offset + span)
        self._end += span
        return offset


def _address(frame: NDArray[np.uint8]) -> int:
    address: int = frame.__array_interface__["data"][0]
    return address


def _give_back(offset: int, free: list[int], addresses: dict[int, tuple[int, int]]) -> None:
    del addresses[offset]
    free.append(offset)
