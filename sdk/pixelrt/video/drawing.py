"""Shapes, and text that stays sharp when it is small."""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pixelrt.dependency import require

Bytes = NDArray[np.uint8]
Colour = tuple[int, int, int]

_PURPOSE = "drawing"
_FINER = 2  # text is drawn this many times larger and then reduced
_FOLDED = str.maketrans(
    {"ß": "ss", "ẞ": "SS", "æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L"}
    | {"đ": "d", "Đ": "D", "ð": "d", "Ð": "D", "þ": "th", "Þ": "Th", "\u0131": "i"}
    | dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212", "-")
)
"""What Unicode does not take apart."""


@lru_cache(maxsize=1024)
def text_cover(text: str, height_px: int) -> NDArray[np.float32]:
    """How much of each pixel a line of text covers, float32[h, w], 0..1; do not write into it.

    The fonts of OpenCV 5 have most alphabets; those of OpenCV 4 have ASCII alone (`folded`).

    Args:
        text: One line.
        height_px: Height of a capital letter with room for what hangs below.
    """
    cv2 = require("cv2", "video", _PURPOSE)
    text = text if hasattr(cv2, "FontFace") else folded(text)
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


def folded(text: str) -> str:
    """A text in ASCII: `Straße` as `Strasse`, `jízdní pruh` as `jizdni pruh`, another alphabet as `?`."""
    apart = unicodedata.normalize("NFKD", text.translate(_FOLDED))
    plain = "".join(sign for sign in apart if not unicodedata.combining(sign))
    return plain.encode("ascii", "replace").decode()


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
    stamp = _text_stamp(text, height_px, colour)
    _put(image, corner, stamp)
    return int(stamp.ink.shape[1])


def fill_rounded(image: Bytes, box: tuple[int, int, int, int], colour: Colour, radius_px: int) -> None:
    """Fill a rectangle with round corners; `box` is top, left, height, width."""
    top, left, tall, wide = box
    _put(image, (top, left), _rounded_stamp((tall, wide), radius_px, colour))


class _Stamp(NamedTuple):
    """A shape in its colour: `image * see / 255 + ink` puts it onto an image."""

    ink: Bytes
    """uint8[h, w, 3], the colour, weakened where the shape covers a part of a pixel."""
    see: Bytes
    """uint8[h, w, 3], how much is seen of what lies beneath, 0..255."""


def _put(image: Bytes, corner: tuple[int, int], stamp: _Stamp) -> None:
    cv2 = require("cv2", "video", _PURPOSE)
    (row, col), (tall, wide) = corner, stamp.ink.shape[:2]
    area = image[max(row, 0) : max(row + tall, 0), max(col, 0) : max(col + wide, 0)]
    if not area.size:
        return
    ink, see = (part[max(-row, 0) :, max(-col, 0) :][: area.shape[0], : area.shape[1]] for part in stamp)
    cv2.multiply(area, see, area, 1 / 255)
    cv2.add(area, ink, area)


def _stamp(cover: NDArray[np.float32], colour: Colour) -> _Stamp:
    ink = np.rint(cover[..., np.newaxis] * np.asarray(colour, np.float32)).astype(np.uint8)
    see = np.rint(255 * (1 - cover)).astype(np.uint8)
    return _Stamp(ink, np.repeat(see[..., np.newaxis], 3, axis=2))


@lru_cache(maxsize=512)
def _text_stamp(text: str, height_px: int, colour: Colour) -> _Stamp:
    return _stamp(text_cover(text, height_px), colour)


@lru_cache(maxsize=512)
def _rounded_stamp(size: tuple[int, int], radius_px: int, colour: Colour) -> _Stamp:
    cv2 = require("cv2", "video", _PURPOSE)
    tall, wide = size
    radius = min(radius_px, tall // 2, wide // 2)
    canvas = np.zeros(size, np.uint8)
    cv2.rectangle(canvas, (radius, 0), (wide - 1 - radius, tall - 1), 255, -1)
    cv2.rectangle(canvas, (0, radius), (wide - 1, tall - 1 - radius), 255, -1)
    for x in (radius, wide - 1 - radius):
        for y in (radius, tall - 1 - radius):
            cv2.circle(canvas, (x, y), radius, 255, -1, cv2.LINE_AA)
    cover: NDArray[np.float32] = canvas.astype(np.float32) / np.float32(255)
    return _stamp(cover, colour)
