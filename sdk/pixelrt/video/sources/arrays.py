"""Arrays that a program hands over, checked and made frames."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from pixelrt.cuda.interop import host_view, is_on_device
from pixelrt.errors import InputError, SourceError
from pixelrt.frames import check_frame

_CLOCK_TOLERANCE_S = 1.0


def checked_image(image: Any, what: str, *, copy: bool) -> Any:
    """An array as a frame holds it: uint8[H, W, 3], C-contiguous; on a GPU, as it is.

    Args:
        image: What the program gave.
        what: Which frame it is, for messages.
        copy: Whether host memory is copied; else only what is not contiguous.

    Raises:
        SourceError: If it is anything else.
    """
    try:
        if is_on_device(image):
            return _checked_on_device(image, what)
        host = host_view(image)
        check_frame(image if host is None else host, 3)
    except InputError as problem:
        raise SourceError(f"{what}: {problem}{_hint(image)}") from None
    return np.array(host, order="C") if copy else np.ascontiguousarray(host)


def _checked_on_device(image: Any, what: str) -> Any:
    shape = getattr(image, "shape", None)
    if shape is None or len(shape) != 3 or shape[2] != 3:
        found = "has no shape" if shape is None else f"has the shape {list(shape)}"
        raise SourceError(f"{what}: the array on the GPU {found}, expected [H, W, 3]")
    return image


def _hint(image: Any) -> str:
    if isinstance(image, tuple) and len(image) == 2 and isinstance(image[0], (bool, np.bool_)):
        return "; OpenCV's read() gives (ok, image): check ok, and hand over the image"
    if isinstance(image, (str, bytes)):
        return "; a path is given to the stream itself, one path for each source"
    return ""


def check_captured(captured_s: float, earliest_s: float, what: str) -> None:
    """Refuse a time that is not of `time.monotonic`, or lies before the frame before.

    Raises:
        SourceError: Saying which clock was expected.
    """
    now_s = time.monotonic()
    if not captured_s <= now_s + _CLOCK_TOLERANCE_S:
        raise SourceError(
            f"{what} was captured at {captured_s:.3f} s, and time.monotonic() says {now_s:.3f} s now; "
            "expected a time of that clock (give the camera's own time as clock_s)"
        )
    if captured_s < earliest_s:
        raise SourceError(
            f"{what} was captured at {captured_s:.6f} s, before the frame before it ({earliest_s:.6f} s); "
            "hand frames over in the order in which they were taken"
        )
