"""What a camera saw, and what was seen in it; and the bytes that a browser gets of it."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelrt.dependency import require
from pixelrt.errors import InputError, SinkError
from pixelrt.manifest import ClassInfo, ColorOrder

Bytes = NDArray[np.uint8]

_PERCENT: Bytes = (np.arange(256) * 100 // 255).astype(np.uint8)
"""Of a confidence of 0..255, rounded down: under `n` percent exactly where the confidence is."""
_FASTEST = 1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class View:
    """A frame and its classes. The arrays are kept until a newer view comes: do not write into them.

    Raises:
        InputError: If an array has another dtype or shape.
    """

    image: Bytes
    """uint8[H, W, 3]."""
    mask: Bytes
    """uint8[h, w], class ids, of any size."""
    classes: tuple[ClassInfo, ...]
    """Names and colours; ids are positions in it."""
    overlay: Callable[[], Bytes]
    """Gives uint8[H, W, 3] RGB, the classes drawn over the frame; called in another thread, if at all."""
    confidence: Bytes | None = None
    """uint8[h, w], probability of the mask's class, 0..255 for 0..1."""
    color: ColorOrder = "rgb"
    """Order of the image's channels."""
    network: tuple[int, int] | None = None
    """Height and width of the network that found the classes; None for those of the mask."""
    index: int = 0
    """Number of the frame."""
    age_ms: float = 0.0
    """From capture to delivery."""

    def __post_init__(self) -> None:
        _check("image", self.image, "[H, W, 3]", self.image.ndim == 3 and self.image.shape[2:] == (3,))
        _check("mask", self.mask, "[h, w]", self.mask.ndim == 2)
        if self.confidence is not None:
            same = self.confidence.shape == self.mask.shape
            _check("confidence", self.confidence, f"{list(self.mask.shape)}, as the mask", same)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the frame."""
        height, width, _ = self.image.shape
        return height, width


def _check(name: str, array: Bytes, expected: str, fits: bool) -> None:
    if array.dtype != np.uint8 or not fits or not array.size:
        raise InputError(f"{name} is {array.dtype}{list(array.shape)}, expected uint8{expected}, not empty")


def packed(view: View, header: dict[str, Any], *, quality: int, longest_side: int) -> bytes:
    """What the page draws: the picture, the class ids, and the confidence where there is one.

    Class ids and confidence are deflated rather than made pictures of: what a browser tells of a picture's
    pixels depends on its colour management, and some distort it on purpose.

    Args:
        view: What to show.
        header: What else the page should know; `frame`, `mask`, `network`, `index`, `age_ms` and `parts` are
            added.
        quality: Of the JPEG.
        longest_side: Of the JPEG, in pixels.

    Returns:
        The length of the header (uint32, little-endian), the header (JSON), and the parts: a JPEG, the class
        ids (zlib), the confidence in whole percent (zlib) or nothing.
    """
    parts = [
        jpeg(view.image, view.color, quality=quality, longest_side=longest_side),
        _deflated(view.mask),
        b"" if view.confidence is None else _deflated(np.take(_PERCENT, view.confidence)),
    ]
    told = {
        **header,
        "frame": view.size,
        "mask": view.mask.shape,
        "network": view.network or view.mask.shape,
        "index": view.index,
        "age_ms": round(view.age_ms, 1),
        "parts": [len(part) for part in parts],
    }
    text = json.dumps(told, separators=(",", ":")).encode()
    return b"".join((struct.pack("<I", len(text)), text, *parts))


def _deflated(plane: Bytes) -> bytes:
    return zlib.compress(np.ascontiguousarray(plane).data, _FASTEST)


def jpeg(image: Bytes, color: ColorOrder, *, quality: int, longest_side: int) -> bytes:
    """A picture as JPEG, made smaller where a side is longer than it may be.

    Args:
        image: uint8[H, W, 3].
        color: Order of its channels.
        quality: 1..100.
        longest_side: Pixels.
    """
    cv2 = require("cv2", "video", "pictures of the live page")
    height, width, _ = image.shape
    scale = longest_side / max(height, width)
    if scale < 1:
        size = (max(round(width * scale), 1), max(round(height * scale), 1))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return _encoded(image, color, ".jpg", [cv2.IMWRITE_JPEG_QUALITY, quality])


def png(image: Bytes, color: ColorOrder) -> bytes:
    """A picture as PNG."""
    return _encoded(image, color, ".png", [])


def _encoded(image: Bytes, color: ColorOrder, suffix: str, options: list[int]) -> bytes:
    cv2 = require("cv2", "video", "pictures of the live page")
    if color == "rgb":
        image = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    fine, content = cv2.imencode(suffix, image, options)
    if not fine:
        raise SinkError(f"OpenCV cannot encode a picture of {image.shape[:2]} (height, width) as {suffix}")
    return bytes(content)
