"""From the pixels of a message, in any layout that cameras use, to a frame's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pixelrt.dependency import require
from pixelrt.manifest import ColorOrder
from pixelrt.strict import suggestion
from pixelrt.video.frame import Bytes
from pixelrt.video.sources.jpeg import JpegDecoder, JpegError, is_jpeg

_PURPOSE = "reading images of a recording"


class PictureError(ValueError):
    """An image that cannot be understood; the message says what was expected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RawPicture:
    """Pixels as they are."""

    height: int
    width: int
    encoding: str
    """As ROS and Foxglove call it: `rgb8`, `mono8`, `bayer_rggb8`, ..."""
    step: int
    """Bytes from one row to the next."""
    big_endian: bool
    """For encodings of two bytes a value."""
    data: Any
    """A buffer of bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CodedPicture:
    """A JPEG, PNG or WebP."""

    format: str
    """What the message says that it is."""
    data: Any
    """A buffer of bytes."""


Picture = RawPicture | CodedPicture


@dataclass(frozen=True, slots=True)
class _Layout:
    """How pixels lie in memory."""

    source: str
    """OpenCV's name of it, as in `COLOR_<source>2RGB` and `COLOR_<source>2BGR`."""
    channels: int
    wide: bool = False
    """Two bytes a value; the upper one is kept."""


_LAYOUTS = {
    "rgb8": _Layout("RGB", 3),
    "bgr8": _Layout("BGR", 3),
    "8uc3": _Layout("BGR", 3),
    "rgba8": _Layout("RGBA", 4),
    "bgra8": _Layout("BGRA", 4),
    "mono8": _Layout("GRAY", 1),
    "8uc1": _Layout("GRAY", 1),
    "rgb16": _Layout("RGB", 3, wide=True),
    "bgr16": _Layout("BGR", 3, wide=True),
    "mono16": _Layout("GRAY", 1, wide=True),
    "yuv422": _Layout("UYVY", 2),
    "uyvy": _Layout("UYVY", 2),
    "yuv422_yuy2": _Layout("YUYV", 2),
    "yuyv": _Layout("YUYV", 2),
    **{f"bayer_{order}8": _Layout(f"Bayer{order.upper()}", 1) for order in ("rggb", "bggr", "gbrg", "grbg")},
    **{
        f"bayer_{order}16": _Layout(f"Bayer{order.upper()}", 1, wide=True)
        for order in ("rggb", "bggr", "gbrg", "grbg")
    },
}
_DISTANCES = ("16uc1", "32fc1", "64fc1")


def to_frame(picture: Picture, color: ColorOrder) -> Bytes:
    """The pixels as uint8[H, W, 3], an array of its own.

    Raises:
        PictureError: If the encoding is unknown, or the data do not fit it.
    """
    if isinstance(picture, CodedPicture):
        return _decoded(picture, color)
    layout = _layout(picture.encoding)
    return _converted(_values(picture, layout), layout, color)


def _layout(encoding: str) -> _Layout:
    layout = _LAYOUTS.get(encoding.lower())
    if encoding.lower() in _DISTANCES:
        raise PictureError(f"it holds distances ({encoding}), expected a picture")
    if layout is None:
        hint = suggestion(encoding.lower(), list(_LAYOUTS))
        raise PictureError(
            f"its pixels are {encoding or 'of no named encoding'}{hint}, "
            f"expected one of {', '.join(_LAYOUTS)}"
        )
    return layout


def _values(picture: RawPicture, layout: _Layout) -> Bytes:
    """uint8[H, W] or [H, W, channels]: padding and lower bytes are left out."""
    height, width = picture.height, picture.width
    row = width * layout.channels * (2 if layout.wide else 1)
    if height < 1 or width < 1 or picture.step < row:
        raise PictureError(
            f"it says {height}x{width} {picture.encoding} with {picture.step} bytes a row, "
            f"expected at least 1x1 and {row} bytes a row"
        )
    if layout.channels == 2 and width % 2:
        raise PictureError(f"it is {width} pixels wide, expected an even number for {picture.encoding}")
    data = np.frombuffer(picture.data, np.uint8)
    needed = (height - 1) * picture.step + row
    if data.size < needed:
        raise PictureError(
            f"it holds {data.size} bytes, expected {needed} for {height}x{width} {picture.encoding}"
        )
    rows = np.lib.stride_tricks.as_strided(data, (height, row), (picture.step, 1), writeable=False)
    if layout.wide:
        rows = rows[:, 0 if picture.big_endian else 1 :: 2]
    return rows if layout.channels == 1 else rows.reshape(height, width, layout.channels)


def _converted(values: Bytes, layout: _Layout, color: ColorOrder) -> Bytes:
    target = color.upper()
    if layout.source == target:
        return np.array(values, order="C")
    cv2 = require("cv2", "video", _PURPOSE)
    if layout.source in ("UYVY", "YUYV"):
        code = getattr(cv2, f"COLOR_YUV2{target}_{layout.source}")
    else:
        code = getattr(cv2, f"COLOR_{layout.source}2{target}")
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(values), code), np.uint8)


def _decoded(picture: CodedPicture, color: ColorOrder) -> Bytes:
    if "compressedDepth" in picture.format:
        raise PictureError(f"it holds distances ({picture.format}), expected a picture")
    content = bytes(picture.data)
    if is_jpeg(content):
        try:
            return JpegDecoder(color, _PURPOSE).decode(content)
        except JpegError as problem:
            raise PictureError(f"its JPEG {problem}") from None
    cv2 = require("cv2", "video", _PURPOSE)
    data = np.frombuffer(content, np.uint8)
    try:
        image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    except cv2.error as problem:
        raise PictureError(f"it cannot be decoded ({problem.err})") from problem
    if image is None:
        raise PictureError(
            f"its {data.size} bytes ({picture.format or 'no format'}, beginning with {content[:8]!r}) "
            "cannot be decoded, expected jpeg, png or webp"
        )
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB) if color == "rgb" else image, np.uint8)
