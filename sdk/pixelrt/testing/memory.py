"""The memory of a simulated GPU: real memory of the host, with its limits watched."""

from __future__ import annotations

import bisect
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pixelrt.errors import DeviceError, InputError, OutOfMemory
from pixelrt.strict import type_of

Bytes = NDArray[np.uint8]
Kind = Literal["device memory", "host memory", "mapped host memory"]
FRESH = 0xA5
"""What new memory is filled with: nobody may count on zeros."""
FREED = 0xDD
"""What freed memory is filled with, for those who still hold a view of it."""
_ALIGNMENT = 256


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Allocated memory."""

    array: Bytes
    kind: Kind

    @property
    def address(self) -> int:
        """Where it begins."""
        return int(self.array.ctypes.data)

    @property
    def visible(self) -> bool:
        """Whether the GPU may use it without a copy."""
        return self.kind != "host memory"


@dataclass(slots=True)
class Memory:
    """All blocks of a GPU and its page-locked host memory."""

    total_bytes: int
    shared: bool
    """Host memory comes out of the same total, as on a Jetson."""
    used_bytes: int = 0
    _blocks: dict[int, Block] = field(default_factory=dict)
    _addresses: list[int] = field(default_factory=list)

    def allocate(self, size_bytes: int, kind: Kind) -> Block:
        """Make a block, filled with `FRESH`.

        Raises:
            InputError: If the size is no whole number of at least 1.
            OutOfMemory: If the limit would be passed.
        """
        if not isinstance(size_bytes, (int, np.integer)) or size_bytes < 1:
            raise InputError(f"size_bytes is {size_bytes!r}, expected a whole number of at least 1")
        counted = self._counted(size_bytes, kind)
        if self.used_bytes + counted > self.total_bytes:
            raise OutOfMemory(
                f"{kind}: {size_bytes} bytes were asked for, {self.total_bytes - self.used_bytes} of "
                f"{self.total_bytes} are free"
            )
        raw = np.full(size_bytes + _ALIGNMENT, FRESH, np.uint8)
        skipped = -raw.ctypes.data % _ALIGNMENT
        block = Block(raw[skipped : skipped + size_bytes], kind)
        self.used_bytes += counted
        self._blocks[block.address] = block
        bisect.insort(self._addresses, block.address)
        return block

    def free(self, block: Block) -> None:
        """Give a block back."""
        self.used_bytes -= self._counted(block.array.size, block.kind)
        del self._blocks[block.address]
        self._addresses.remove(block.address)
        block.array.fill(FREED)

    def check(self, view: Bytes) -> None:
        """Refuse bytes whose block was freed since `on_device` or `page_locked` gave them.

        As long as somebody holds them, no other block is where they are.

        Raises:
            DeviceError: Saying where they are.
        """
        self._block(int(view.ctypes.data), view.size)

    def on_device(self, address: int, size_bytes: int) -> Bytes:
        """The bytes at an address that the GPU can use.

        Raises:
            DeviceError: If they do not lie inside one block that is not freed.
        """
        block = self._block(address, size_bytes)
        if not block.visible:
            raise DeviceError(
                f"{address:#x} is page-locked memory of the host, expected an address on the GPU: "
                "copy it up, or allocate it with mapped=True and use its device_address"
            )
        return _part(block, address, size_bytes)

    def page_locked(self, array: Bytes) -> Bytes:
        """The bytes, in one row, of an array that is copied from or to.

        Raises:
            InputError: If it is no array of contiguous uint8, or empty.
            DeviceError: If it does not lie inside one block of host memory that is not freed.
        """
        if not isinstance(array, np.ndarray):
            raise InputError(f"the host's side of a copy is {type_of(array)}, expected a NumPy array")
        if not array.size or array.dtype != np.uint8 or not array.flags.c_contiguous:
            raise InputError(
                f"the host's side of a copy is {array.dtype}{list(array.shape)} with strides "
                f"{array.strides}, expected contiguous uint8"
            )
        block = self._block(int(array.ctypes.data), array.size, "is not page-locked: use allocate_host")
        if block.kind == "device memory":
            raise DeviceError(f"{array.ctypes.data:#x} is device memory, expected page-locked host memory")
        return array.reshape(-1)

    def _block(self, address: int, size_bytes: int, otherwise: str = "is not allocated, or freed") -> Block:
        place = bisect.bisect_right(self._addresses, address)
        block = self._blocks[self._addresses[place - 1]] if place else None
        if block is None or address >= block.address + block.array.size:
            raise DeviceError(f"the memory at {address:#x} ({size_bytes} bytes) {otherwise}")
        left = block.address + block.array.size - address
        if size_bytes > left:
            raise DeviceError(
                f"{size_bytes} bytes at {address:#x} leave their {block.kind}: {left} of its "
                f"{block.array.size} bytes lie behind this address"
            )
        return block

    def _counted(self, size_bytes: int, kind: Kind) -> int:
        return size_bytes if self.shared or kind == "device memory" else 0


def _part(block: Block, address: int, size_bytes: int) -> Bytes:
    start = address - block.address
    part: Bytes = block.array[start : start + size_bytes]
    return part
