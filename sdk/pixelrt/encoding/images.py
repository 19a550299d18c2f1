"""Single images, encoded by OpenCV."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pixelrt.dependency import require
from pixelrt.errors import InputError, SinkError

Bytes = NDArray[np.uint8]

IMAGES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
"""Suffixes of images."""


def encode_png(image: Bytes) -> bytes:
    """An image as PNG, without loss.

    Args:
        image: uint8[H, W] or [H, W, 1] grey, or [H, W, 3] RGB.

    Raises:
        InputError: If it is something else.
        SinkError: If OpenCV cannot.
    """
    return encode_image(image, ".png")


def encode_image(image: Bytes, suffix: str) -> bytes:
    """An image in the format of a suffix, such as `.jpg`.

    Args:
        image: uint8[H, W] or [H, W, 1] grey, or [H, W, 3] RGB.
        suffix: One of `IMAGES`.

    Raises:
        InputError: If the image is something else.
        SinkError: If OpenCV cannot.
    """
    cv2 = require("cv2", "video", "writing images")
    seen = checked(image)
    shown = cv2.cvtColor(seen, cv2.COLOR_RGB2BGR) if seen.ndim == 3 else seen
    encoded, content = cv2.imencode(suffix.lower(), shown)
    if not encoded:
        raise SinkError(f"OpenCV cannot encode {image.shape} as {suffix}; write .png")
    return content.tobytes() if isinstance(content, np.ndarray) else bytes(content)


def checked(image: Bytes) -> Bytes:
    """The image as uint8[H, W] or uint8[H, W, 3].

    Raises:
        InputError: If it is something else.
    """
    found = image if isinstance(image, np.ndarray) else np.asarray(image)
    is_image = found.ndim == 2 or (found.ndim == 3 and found.shape[2] in (1, 3))
    if found.dtype != np.uint8 or not is_image or not found.size:
        raise InputError(
            f"an image is {found.dtype}{list(found.shape)}, expected uint8[H, W] or [H, W, 1] (grey) or "
            "uint8[H, W, 3] (RGB)"
        )
    return found[..., 0] if found.ndim == 3 and found.shape[2] == 1 else found


def as_rgb(image: Bytes) -> Bytes:
    """uint8[H, W, 3] of an image that was checked."""
    return image if image.ndim == 3 else np.repeat(image[..., np.newaxis], 3, axis=2)
