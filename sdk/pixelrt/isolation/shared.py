"""Memory that two processes share. It has no name: it is gone with the last process that holds it."""

from __future__ import annotations

import fcntl
import math
import mmap
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelrt.errors import OutOfMemory
from pixelrt.isolation.protocol import Plane
from pixelrt.machine import memory

_ALIGNMENT_BYTES = 64
_STEP_BYTES = 1 << 20


class SharedMemory:
    """Arrays side by side in one mapping, which one process writes and the other one reads.

    The writer makes it larger when it has to, the reader notices. It never shrinks (the kernel sees to it):
    to touch what is no more would end the process.
    """

    def __init__(self, descriptor: int) -> None:
        """Take over a file descriptor of such memory, of `create` or from the other process."""
        self._file = open(descriptor, "r+b", buffering=0)  # noqa: SIM115 - closed by `close`
        self._mapping: mmap.mmap | None = None

    @classmethod
    def create(cls, name: str) -> SharedMemory:
        """Make empty memory; the name is for people who look at /proc.

        Raises:
            OSError: If there are no file descriptors left.
        """
        made = cls(os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING))
        fcntl.fcntl(made.descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
        return made

    @property
    def descriptor(self) -> int:
        """What the other process has to inherit."""
        return self._file.fileno()

    def put(self, arrays: Sequence[NDArray[Any]]) -> tuple[Plane, ...]:
        """Write arrays (any strides), in the place of those that were there.

        Raises:
            OutOfMemory: If there is not so much memory; nothing was written.
        """
        planes = []
        end = 0
        for array in arrays:
            offset = -(-end // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES
            planes.append(Plane(array.dtype.str, array.shape, offset))
            end = offset + array.nbytes
        self.hold(end)
        for plane, array in zip(planes, arrays, strict=True):
            np.copyto(self.view(plane), array, casting="no")
        return tuple(planes)

    def hold(self, size_bytes: int) -> None:
        """Make it large enough. The pages are taken here: writing to what is not there ends a process.

        What is available is asked for before: the kernel would not refuse, but kill processes to make room.

        Raises:
            OutOfMemory: If there is not so much memory.
        """
        held = os.fstat(self.descriptor).st_size
        if size_bytes <= held:
            return
        wanted = -(-size_bytes // _STEP_BYTES) * _STEP_BYTES
        found = memory()
        if found is not None and wanted - held > found.available_bytes:
            raise OutOfMemory(
                f"{wanted >> 20} MiB of memory to share with the other process cannot be had, "
                f"{found.available_bytes >> 20} MiB are available; close other programs, or hand over "
                "smaller frames or batches"
            )
        os.posix_fallocate(self.descriptor, 0, wanted)

    def view(self, plane: Plane) -> NDArray[Any]:
        """An array in the memory itself. It is overwritten by the next `put`.

        Raises:
            ValueError: If it lies outside.
        """
        dtype = np.dtype(plane.dtype)
        end = plane.offset + math.prod(plane.shape) * dtype.itemsize
        if self._mapping is None or end > len(self._mapping):
            self._map()
        if self._mapping is None or end > len(self._mapping):
            raise ValueError(f"{plane} lies outside of the shared memory")
        return np.ndarray(plane.shape, dtype, self._mapping, plane.offset)

    def close(self) -> None:
        """Give the memory back, as soon as no view is left."""
        self._mapping = None
        self._file.close()

    def _map(self) -> None:
        size_bytes = os.fstat(self.descriptor).st_size
        self._mapping = mmap.mmap(self.descriptor, size_bytes) if size_bytes else None
