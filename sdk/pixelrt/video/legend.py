"""The classes of a mask with their colours and shares, in a quiet strip at the foot of the picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pixelrt.dependency import require
from pixelrt.manifest import ClassInfo
from pixelrt.video.drawing import Colour, fill_rounded, text_cover, write_text

Bytes = NDArray[np.uint8]

_BRIGHT: Colour = (240, 240, 240)
_DIM: Colour = (135, 135, 135)
_RIM: Colour = (110, 110, 110)
_SHADE = 0.32
_ABSENT = 0.0005
_MOST_ROWS = 3
_SMALLEST_PX = 9


@dataclass(frozen=True, slots=True)
class _Entry:
    """A class and the corner where it stands, from the legend's own top left."""

    info: ClassInfo
    row: int
    col: int


class Legend:
    """Where each class stands is decided once, so that nothing jumps from frame to frame.

    The text is as large as suits the picture, or smaller where the classes would not fit into three rows; of
    too many classes the last ones are left out.

    Args:
        classes: In the order in which they are shown.
        size: Height and width of the pictures.
    """

    def __init__(self, classes: Sequence[ClassInfo], size: tuple[int, int]) -> None:
        rows, cols = size
        self.size = size
        wanted_px = int(np.clip(round(5 + min(rows, 0.75 * cols) / 50), _SMALLEST_PX, 40))
        for self.text_px in range(wanted_px, _SMALLEST_PX - 1, -1):
            self._line_px = round(1.55 * self.text_px)
            self._margin = max(round(0.5 * self.text_px), 3)
            self._entries = self._place(classes, cols)
            if len(self._entries) == len(classes):
                break
        lines = 1 + max((entry.row for entry in self._entries), default=-1)
        self.height_px = min(lines * self._line_px + 2 * self._margin, rows) if lines else 0

    @property
    def shown(self) -> tuple[str, ...]:
        """Names of the classes that are shown."""
        return tuple(entry.info.name for entry in self._entries)

    def draw(self, image: Bytes, coverage: Mapping[str, float]) -> None:
        """Draw into the last `height_px` rows of an image.

        Args:
            image: uint8[H, W, 3] RGB of the legend's width; changed in place.
            coverage: Share of the picture per class name, 0..1.
        """
        if not self.height_px:
            return
        cv2 = require("cv2", "video", "drawing a legend")
        strip = image[-self.height_px :]
        cv2.convertScaleAbs(strip, strip, _SHADE)
        for entry in self._entries:
            self._draw_entry(strip, entry, coverage.get(entry.info.name, 0.0))

    def _draw_entry(self, strip: Bytes, entry: _Entry, share: float) -> None:
        text, side = self.text_px, round(0.72 * self.text_px)
        top = self._margin + entry.row * self._line_px + (self._line_px - text) // 2
        present = share >= _ABSENT
        swatch = entry.info.color if present else _faded(entry.info.color)
        box = (top + (text - side) // 2, entry.col, side, side)
        fill_rounded(strip, (box[0] - 1, box[1] - 1, side + 2, side + 2), _RIM, side // 4 + 1)
        fill_rounded(strip, box, swatch, max(side // 4, 1))
        col = entry.col + round(1.05 * text)
        tint = _BRIGHT if present else _DIM
        col += write_text(strip, entry.info.name, (top, col), text, tint) + round(0.35 * text)
        write_text(strip, percent(share), (top, col), text, tint if not present else (190, 190, 190))

    def _place(self, classes: Sequence[ClassInfo], cols: int) -> list[_Entry]:
        """Columns of equal width, as many as fit."""
        if not classes:
            return []
        text = self.text_px
        widths = [text_cover(info.name, text).shape[1] for info in classes]
        cell = round(1.05 * text) + max(widths) + round(0.35 * text) + text_cover("100 %", text).shape[1]
        cell += round(0.9 * text)
        inner = cols - 2 * self._margin
        per_row = max(inner // cell, 1)
        lines = min(-(-len(classes) // per_row), _MOST_ROWS)
        per_row = min(max(-(-len(classes) // lines), 1), per_row)
        step = inner // per_row
        return [
            _Entry(info, number // per_row, self._margin + (number % per_row) * step)
            for number, info in enumerate(classes[: lines * per_row])
        ]


def percent(share: float) -> str:
    """`12 %`, `0.4 %`, `0 %`."""
    if share >= 0.0095 or share < _ABSENT:
        return f"{100 * share:.0f} %"
    return f"{100 * share:.1f} %"


def _faded(colour: Colour) -> Colour:
    red, green, blue = (round(0.4 * value + 20) for value in colour)
    return red, green, blue
