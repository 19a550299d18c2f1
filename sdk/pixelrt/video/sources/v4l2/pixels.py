"""Pictures as cameras give them, as uint8[H, W, 3]."""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from pixelrt.dependency import require
from pixelrt.errors import SourceError
from pixelrt.manifest import ColorOrder
from pixelrt.video.frame import Bytes
from pixelrt.video.sources.jpeg import JpegDecoder, JpegError

_BLOCKS = (8, 16)
"""Sides of what a JPEG is coded in, in pixels."""


class DamagedError(Exception):
    """A picture whose data are not whole; what is known of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelFormat:
    """How a picture lies in memory."""

    name: str
    """As the option `format` has it."""
    code: str
    """The kernel's four letters."""
    row_bytes: Fraction = Fraction(0)
    """Per pixel of a row, in its first plane; 0 for JPEG."""
    rows: Fraction = Fraction(1)
    """Rows of all planes, per row of the picture."""
    conversion: str = ""
    """OpenCV's name, with COLOR for the order of the channels."""


FORMATS = (
    PixelFormat(name="bgr24", code="BGR3", row_bytes=Fraction(3), conversion="BGR2{color}"),
    PixelFormat(name="rgb24", code="RGB3", row_bytes=Fraction(3), conversion="RGB2{color}"),
    PixelFormat(name="yuyv", code="YUYV", row_bytes=Fraction(2), conversion="YUV2{color}_YUYV"),
    PixelFormat(name="uyvy", code="UYVY", row_bytes=Fraction(2), conversion="YUV2{color}_UYVY"),
    PixelFormat(
        name="nv12",
        code="NV12",
        row_bytes=Fraction(1),
        rows=Fraction(3, 2),
        conversion="YUV2{color}_NV12",
    ),
    PixelFormat(
        name="i420",
        code="YU12",
        row_bytes=Fraction(1),
        rows=Fraction(3, 2),
        conversion="YUV2{color}_I420",
    ),
    PixelFormat(name="mjpeg", code="MJPG"),
    PixelFormat(name="jpeg", code="JPEG"),
    PixelFormat(name="grey", code="GREY", row_bytes=Fraction(1), conversion="GRAY2{color}"),
)
"""What is read, from what is converted fastest to what has no colours."""

BY_CODE = {pixels.code: pixels for pixels in FORMATS}
BY_NAME = {pixels.name: pixels for pixels in FORMATS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What a buffer holds."""

    pixels: PixelFormat
    size: tuple[int, int]
    """Height and width."""
    stride: int
    """Bytes from one row to the next."""

    @property
    def least_bytes(self) -> int:
        """That a whole picture has."""
        return int(self.stride * self.size[0] * self.pixels.rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A buffer that the driver filled; it is lent until it is given back."""

    index: int
    content: mmap.mmap
    length: int
    """Bytes that were filled."""
    sequence: int
    """The driver's count of pictures, with those that it lost."""
    taken_s: float | None
    """By the kernel's monotonic clock; None where the driver has another."""
    damaged: bool


class Unpacker:
    """Makes pictures of buffers.

    Colours of YUV are taken to be those of BT.601, as cameras for computers have them.

    Args:
        layout: What the buffers hold.
        color: Order of the channels of the pictures.

    Raises:
        MissingDependency: If a library is needed that is not installed.
    """

    def __init__(self, layout: Layout, color: ColorOrder) -> None:
        self._layout, self._color = layout, color
        pixels = layout.pixels
        self._decoder: JpegDecoder | None = None
        self._conversion: int | None = None
        if not pixels.row_bytes:
            self._decoder = JpegDecoder(color, "reading a camera's JPEG")
            return
        if pixels.name != f"{color}24":
            self._cv2 = require("cv2", "video", "reading a camera")
            name = pixels.conversion.format(color=color.upper())
            self._conversion = getattr(self._cv2, f"COLOR_{name}")

    def unpack(self, taken: Taken) -> Bytes:
        """A picture that shares no memory with its buffer.

        Raises:
            DamagedError: If it is not whole.
        """
        if taken.damaged:
            raise DamagedError("the driver says so")
        if self._decoder is not None:
            return self._jpeg(self._decoder, taken.content[: taken.length])
        if taken.length < self._layout.least_bytes:
            raise DamagedError(f"{taken.length} bytes came, a picture has {self._layout.least_bytes}")
        return self._raw(taken.content)

    def _raw(self, buffer: Any) -> Bytes:
        (height, width), pixels, stride = self._layout.size, self._layout.pixels, self._layout.stride
        if pixels.row_bytes > 1:
            channels = int(pixels.row_bytes)
            view = np.ndarray((height, width, channels), np.uint8, buffer, strides=(stride, channels, 1))
        elif pixels.name == "i420" and stride != width:
            view = _dense(buffer, height, width, stride)
        else:
            rows = int(height * pixels.rows)
            view = np.ndarray((rows, width), np.uint8, buffer, strides=(stride, 1))
        if self._conversion is None:
            return np.array(view, order="C")
        return np.asarray(self._cv2.cvtColor(view, self._conversion), np.uint8)

    def _jpeg(self, decoder: JpegDecoder, content: bytes) -> Bytes:
        try:
            image = decoder.decode(content)
        except JpegError as problem:
            raise DamagedError(f"a JPEG {problem}") from None
        (rows, cols), (height, width) = image.shape[:2], self._layout.size
        if not (_is_filled_up(rows, height) and _is_filled_up(cols, width)):
            raise DamagedError(f"a JPEG is {rows}x{cols}, expected {height}x{width}")
        return np.ascontiguousarray(image[:height, :width])


def _is_filled_up(coded: int, side: int) -> bool:
    """Whether a side of a JPEG is that of its picture, or that filled up to whole blocks.

    Encoders in hardware know no part of a block: 1080 rows are 1088 in their JPEG, of which the driver says
    that the first 1080 are the picture. The filling lies behind the last row and the last column.
    """
    return coded == side or coded in (-(-side // block) * block for block in _BLOCKS)


def _dense(buffer: Any, height: int, width: int, stride: int) -> Bytes:
    """Three planes with bytes between their rows, without: uint8[3/2 H, W]."""
    luma = np.ndarray((height, width), np.uint8, buffer, strides=(stride, 1))
    chroma = np.ndarray(
        (height, width // 2), np.uint8, buffer, offset=height * stride, strides=(stride // 2, 1)
    )
    return np.concatenate([luma.reshape(-1), chroma.reshape(-1)]).reshape(height * 3 // 2, width)


def check_layout(layout: Layout, place: str) -> None:
    """Refuse a row that is shorter than its pixels.

    Raises:
        SourceError: Saying what the driver said.
    """
    least = layout.size[1] * layout.pixels.row_bytes
    if layout.stride < least:
        raise SourceError(
            f"{place} says that a row of {least} bytes has {layout.stride}: a fault of its driver"
        )
