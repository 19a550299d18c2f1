"""Pictures as they were seen: phones turn theirs by a note in the file."""

from __future__ import annotations

from typing import Any

import numpy as np

from pixelrt.errors import SourceError
from pixelrt.manifest import ColorOrder
from pixelrt.video.frame import Bytes


def upright(picture: Any, color: ColorOrder, place: object) -> Bytes:
    """The pixels of a picture that FFmpeg decoded, as the camera saw them: uint8[H, W, 3].

    Args:
        picture: Of PyAV.
        color: Order of the channels.
        place: Where it is from, for messages.

    Raises:
        SourceError: If it is turned by anything but a multiple of 90 degrees.
    """
    image: Bytes = picture.to_ndarray(format=f"{color}24")
    turn = int(picture.rotation)
    if turn % 90:
        raise SourceError(f"{place} says that it is turned by {turn} degrees; expected a multiple of 90")
    return np.ascontiguousarray(np.rot90(image, turn // 90)) if turn else image
