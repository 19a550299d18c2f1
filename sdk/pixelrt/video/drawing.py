"""Shapes, and text that stays sharp when it is small."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pixelrt.dependency import require

Bytes = NDArray[np.uint8]
Colour = tuple[int, int, int]

_PURPOSE = "drawing"
_FINER = 2  # text is drawn this many times larger and then reduced


@lru_cache(maxsize=1024)
def text_cover(text: str, height_px: int) -> NDArray[np.float32]:
    """How much of each pixel a line of text covers, float32[h, w], 0..1; do not write into it.

    Args:
        text: One line.
        height_px: Height of a capital letter with room for what hangs below.
    """
    cv2 = require("cv2", "video", _PURPOSE)
    font, thick = cv2.FONT_HERSHEY_SIMPLEX, 1 if height_px < 14 else 2
    (_, unit_px), _ = cv2.getTextSize("Hg", font, 1.0, thick)
    scale = _FINER * 0.72 * height_px / unit_px
    (wide, _), _ = cv2.getTextSize(text, font, scale, thick)
    size = (_FINER * height_px, -(-(wide + 2 * _FINER) // _FINER) * _FINER)
    canvas = np.zeros(size, np.uint8)
    origin = (_FINER // 2, round(0.78 * size[0]))
    cv2.putText(canvas, text, origin, font, scale, 255, thick, cv2.LINE_AA)
    reduced = cv2.resize(canvas, (size[1] // _FINER, height_px), interpolation=cv2.INTER_AREA)
    cover: NDArray[np.float32] = np.minimum(reduced.astype(np.float32) / 255, 1)
    cover.flags.writeable = False
    return cover


def write_text(image: Bytes, text: str, corner: tuple[int, int], height_px: int, colour: Colour) -> int:
    """Draw a line of text into an image.

    Args:
        image: uint8[H, W, 3]; what lies outside is cut off.
        text: One line.
        corner: Row and column of the top left corner.
        height_px: Height of the line.
        colour: In the order of the image's channels.

    Returns:
        The width of the text in pixels.
    """
    cover = text_cover(text, height_px)
    row, col = corner
    area = image[max(row, 0) : row + cover.shape[0], max(col, 0) : col + cover.shape[1]]
    seen = cover[max(-row, 0) :, max(-col, 0) :][: area.shape[0], : area.shape[1], None]
    area[:] = (area + (np.asarray(colour, np.float32) - area) * seen + 0.5).astype(np.uint8)
    return int(cover.shape[1])


def fill_rounded(image: Bytes, box: tuple[int, int, int, int], colour: Colour, radius_px: int) -> None:
    """Fill a rectangle with round corners; `box` is top, left, height, width."""
    cv2 = require("cv2", "video", _PURPOSE)
    top, left, tall, wide = box
    radius = min(radius_px, tall // 2, wide // 2)
    right, bottom = left + wide - 1, top + tall - 1
    cv2.rectangle(image, (left + radius, top), (right - radius, bottom), colour, -1)
    cv2.rectangle(image, (left, top + radius), (right, bottom - radius), colour, -1)
    for x in (left + radius, right - radius):
        for y in (top + radius, bottom - radius):
            cv2.circle(image, (x, y), radius, colour, -1, cv2.LINE_AA)
