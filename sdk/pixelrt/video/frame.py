"""One image and when it was taken."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelrt.cuda.interop import is_on_device
from pixelrt.errors import InputError, SourceError
from pixelrt.manifest import ColorOrder
from pixelrt.strict import type_of

Bytes = NDArray[np.uint8]

_TO_HOST = ("to_host", "cpu", "get", "copy_to_host")
"""What copies an array from a GPU: of PixelRT; PyTorch; CuPy and pycuda; Numba."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Frame:
    """One image of a source, and when it was taken.

    Whoever iterates over a source may keep a frame and write into its arrays; those on a GPU, and those that
    the program handed over uncopied, stay their owner's. The results of a stream share their frame between
    the program and all sinks, which look at it later: copy the image before you draw on it.
    """

    image: Any
    """uint8[H, W, 3] on the host; or an array on a GPU (`__dlpack__` or `__cuda_array_interface__`)."""
    index: int
    """Position in the source, from 0, without gaps: frames that were lost have none."""
    time_s: float
    """Seconds since the source's first frame, by the source's own clock where it has one."""
    name: str
    """Unlike every other name of the source; a file name without its suffix."""
    truth: Bytes | None = None
    """The right class ids, uint8[H, W], where the source knows them."""
    captured_s: float = field(default_factory=time.monotonic)
    """`time.monotonic` when it was taken, where the source knows: V4L2 and GStreamer by the buffer's time, a
    callback by what it says. From the network: when the first data of the picture came, before it was
    complete. Else when the image was there."""
    clock_s: float | None = None
    """The same by the source's own clock, in seconds since 1970; None where it has none."""
    color: ColorOrder = "rgb"
    """Order of the channels."""
    source: str = ""
    """Name of the source."""

    def __post_init__(self) -> None:
        for what in ("time_s", "captured_s", "clock_s"):
            seconds = getattr(self, what)
            if seconds is not None and not math.isfinite(seconds):
                raise SourceError(f"frame {self.name} has the {what} {seconds}, expected a number of seconds")
        if not is_on_device(self.image):
            self._check_image()
        if self.truth is not None and self.truth.shape != self.size:
            raise SourceError(
                f"frame {self.name} is {self.size} (height, width) and its labels are "
                f"{self.truth.shape}; give labels of the same size"
            )

    def __repr__(self) -> str:
        rows, cols = self.size
        truth = "" if self.truth is None else ", truth"
        return f"Frame({self.name!r}, index={self.index}, time_s={self.time_s:.3f}, {rows}x{cols}{truth})"

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        rows, cols = self.image.shape[:2]
        return rows, cols

    def on_host(self) -> Bytes:
        """The image in main memory, uint8[H, W, 3]; of one on a GPU a copy, made anew by each call.

        Raises:
            InputError: If the array's library has none of the usual ways to copy it.
        """
        if isinstance(self.image, np.ndarray):
            return self.image
        for name in _TO_HOST:
            if (copy := getattr(self.image, name, None)) is not None:
                return np.ascontiguousarray(np.asarray(copy()))
        raise InputError(
            f"frame {self.name} is {type_of(self.image)} on a GPU, which has none of the methods "
            f"{', '.join(_TO_HOST)} to copy it to the host; copy it there before it is handed over"
        )

    def _check_image(self) -> None:
        image = self.image
        if not isinstance(image, np.ndarray):
            raise SourceError(f"frame {self.name} is {type_of(image)}, expected a NumPy array uint8[H, W, 3]")
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise SourceError(
                f"frame {self.name} is {image.dtype}{list(image.shape)}, expected uint8[H, W, 3]"
            )
