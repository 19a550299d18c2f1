"""Pictures of the report: frames, masks and their differences, as data URIs."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from pixelrt.errors import ExportError
from pixelrt.manifest import ClassInfo, ColorOrder

Bytes = NDArray[np.uint8]

_DIFFERENT = (255, 0, 160)
"""RGB of differing pixels: a colour that no palette of street scenes has."""
_JPEG_QUALITY = 82
_EXACT_PIXELS = 64 * 64
"""Images of so few pixels are shown pixel by pixel, where JPEG would be seen."""


def as_rgb(pixels: Bytes, color: ColorOrder) -> Bytes:
    """The first channels of a frame as uint8[h, w, 3] RGB; grey where there are fewer than three."""
    if pixels.shape[2] < 3:
        return np.repeat(pixels[..., :1], 3, axis=2)
    return pixels[..., :3] if color == "rgb" else pixels[..., 2::-1]


def colored(mask: Bytes, classes: Sequence[ClassInfo]) -> Bytes:
    """A mask in the colours of its classes, uint8[h, w, 3] RGB; ids that are none of them are black."""
    palette = np.zeros((max(256, len(classes)), 3), np.uint8)
    palette[: len(classes)] = [info.color for info in classes]
    return palette[mask]


def difference(frame: Bytes, first: Bytes, second: Bytes) -> Bytes:
    """The frame in pale grey; pixels where two masks differ in magenta, grown by one pixel to be seen."""
    grey = np.asarray(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), np.float32)
    pale = np.repeat((150 + grey * (100 / 255)).astype(np.uint8)[..., None], 3, axis=2)
    differs = cv2.dilate((first != second).astype(np.uint8), np.ones((3, 3), np.uint8))
    pale[np.asarray(differs) > 0] = _DIFFERENT
    return pale


def photo_uri(image: Bytes) -> str:
    """A photograph as a data URI (JPEG)."""
    return _uri(image, ".jpg", "image/jpeg", [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])


def image_uri(image: Bytes) -> str:
    """A generated image as a data URI: exact if it is small, else like a photograph."""
    return drawing_uri(image) if image.shape[0] * image.shape[1] <= _EXACT_PIXELS else photo_uri(image)


def drawing_uri(image: Bytes) -> str:
    """A drawing of few colours as a data URI (PNG, exact)."""
    return _uri(image, ".png", "image/png", [cv2.IMWRITE_PNG_COMPRESSION, 9])


def _uri(image: Bytes, suffix: str, kind: str, options: list[int]) -> str:
    done, content = cv2.imencode(suffix, np.ascontiguousarray(image[..., ::-1]), options)
    if not done:
        raise ExportError(f"a picture of {image.shape} for the report could not be encoded as {kind}")
    return f"data:{kind};base64,{base64.b64encode(content.tobytes()).decode()}"
