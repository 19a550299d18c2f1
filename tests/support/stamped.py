"""Pictures that say which they are: index and time as black and white blocks that survive lossy codecs."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BLOCK_PX = 16
_INDEX_BITS, _TIME_BITS, _CHECK_BITS = 20, 32, 8
_BITS = _INDEX_BITS + _TIME_BITS + _CHECK_BITS
_BLOCKS_PER_ROW = 15
ROWS_PX = BLOCK_PX * -(-_BITS // _BLOCKS_PER_ROW)
SIZE = (240, 320)


@dataclass(frozen=True, slots=True)
class Stamp:
    """What stands in a picture."""

    index: int
    drawn_s: float
    """`time.monotonic` when it was drawn, to the millisecond; one clock for all processes of a machine."""

    def age_ms(self, now_s: float) -> float:
        return (now_s - self.drawn_s) * 1e3


def draw(index: int, size: tuple[int, int] = SIZE, *, now_s: float | None = None) -> NDArray[np.uint8]:
    """A picture uint8[H, W, 3] with its stamp on top and a moving red, green and blue below."""
    rows, cols = size
    image = np.empty((rows, cols, 3), np.uint8)
    image[..., 0] = (np.arange(cols) + 3 * index) % 200
    image[..., 1] = ((np.arange(rows) + 5 * index) % 200)[:, None]
    image[..., 2] = 40
    millis = round((time.monotonic() if now_s is None else now_s) * 1e3) % 2**_TIME_BITS
    value = (index % 2**_INDEX_BITS) | millis << _INDEX_BITS
    value |= _check(value) << (_INDEX_BITS + _TIME_BITS)
    for place in range(_BITS):
        row, col = (BLOCK_PX * part for part in divmod(place, _BLOCKS_PER_ROW))
        image[row : row + BLOCK_PX, col : col + BLOCK_PX] = 235 * (value >> place & 1) + 10
    return image


def read(image: NDArray[np.uint8]) -> Stamp | None:
    """The stamp of a picture; None if it is damaged: a block of neither black nor white, a wrong check."""
    value = 0
    for place in range(_BITS):
        row, col = (BLOCK_PX * part for part in divmod(place, _BLOCKS_PER_ROW))
        level = image[row + 3 : row + BLOCK_PX - 3, col + 3 : col + BLOCK_PX - 3].mean()
        if 90 < level < 165:
            return None
        value |= int(level > 127) << place
    check = value >> (_INDEX_BITS + _TIME_BITS)
    value &= 2 ** (_INDEX_BITS + _TIME_BITS) - 1
    if check != _check(value):
        return None
    return Stamp(value % 2**_INDEX_BITS, (value >> _INDEX_BITS) / 1e3)


def _check(value: int) -> int:
    total = 0x5A
    while value:
        total = (total * 31 + (value & 0xFF)) & 0xFF
        value >>= 8
    return total
