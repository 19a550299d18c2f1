"""A contact sheet: some frames of a run, evenly spaced, on one page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pixelrt.dependency import require
from pixelrt.encoding import encode_image, temporary_for, write_whole
from pixelrt.errors import MisspeltSink, SinkError
from pixelrt.manifest import ClassInfo
from pixelrt.segmentation import Segmentation
from pixelrt.video.artist import Artist
from pixelrt.video.delivery import Delivery
from pixelrt.video.drawing import Colour, write_text
from pixelrt.video.frame import Bytes, Frame
from pixelrt.video.legend import Legend
from pixelrt.video.sinks.base import BaseSink

_PAPER: Colour = (22, 24, 28)
_INK: Colour = (235, 235, 235)
_TILE_PX = (360, 640)
_GAP_PX = 8
_TEXT_PX = 17


@dataclass(frozen=True, slots=True)
class _Tile:
    index: int
    time_s: float
    image: Bytes
    coverage: dict[str, float]


class ContactSheet(BaseSink):
    """Overlays of evenly spaced frames as one PNG, whatever the number of frames; memory stays bounded.

    Args:
        path: Ends in .png (or another image suffix).
        classes: For the legend.
        alpha: Weight of the classes' colours, 0..1.
        count: Number of frames on it, or fewer where there are fewer.
        title: First line.

    Raises:
        SinkError: If the file cannot be written, or `count` is below 1.
    """

    def __init__(
        self, path: Path, classes: Sequence[ClassInfo], *, alpha: float = 0.5, count: int = 9, title: str = ""
    ) -> None:
        if count < 1:
            raise SinkError(f"a contact sheet shows at least 1 frame, and {count} were asked for")
        if path.suffix.lower() not in (".png", ".jpg", ".jpeg", ".webp"):
            raise MisspeltSink(
                f"{path} ends in {path.suffix or 'nothing'}, expected an image such as sheet.png"
            )
        temporary_for(path)
        self._cv2 = require("cv2", "video", "drawing a contact sheet")
        self.path, self._classes, self._count, self._title = path, classes, count, title
        self._artist = Artist(classes, alpha=alpha, legend=False)
        self._tiles: list[_Tile] = []
        self._step, self._seen = 1, 0
        self._closed = False

    def write(self, delivery: Delivery) -> None:
        """Keep a small copy of every n-th frame; n doubles as the run gets longer."""
        if self._seen % self._step == 0:
            if len(self._tiles) >= 4 * self._count:
                self._tiles, self._step = self._tiles[::2], 2 * self._step
            if self._seen % self._step == 0:
                self._tiles.append(self._tile(delivery.frame, delivery.result))
        self._seen += 1

    def close(self) -> tuple[Path, ...]:
        """Draw the sheet and write it."""
        if not self._tiles:
            return ()
        if not self._closed:
            write_whole(self.path, encode_image(self._draw(), self.path.suffix))
            self._closed = True
        return (self.path,)

    def _tile(self, frame: Frame, result: Segmentation) -> _Tile:
        rows, cols = frame.size
        scale = min(_TILE_PX[0] / rows, _TILE_PX[1] / cols, 1.0)
        size = (max(round(cols * scale), 1), max(round(rows * scale), 1))
        overlay = self._artist.draw(frame, result)
        image = np.asarray(self._cv2.resize(overlay, size, interpolation=self._cv2.INTER_AREA), np.uint8)
        return _Tile(frame.index, frame.time_s, image, result.coverage())

    def _chosen(self) -> list[_Tile]:
        count = min(self._count, len(self._tiles))
        places = np.linspace(0, len(self._tiles) - 1, count).round().astype(int) if count > 1 else [0]
        return [self._tiles[place] for place in places]

    def _draw(self) -> Bytes:
        tiles = self._chosen()
        tall = max(tile.image.shape[0] for tile in tiles)
        wide = max(tile.image.shape[1] for tile in tiles)
        across = math.ceil(math.sqrt(len(tiles)))
        down = math.ceil(len(tiles) / across)
        head = _GAP_PX + (_TEXT_PX + _GAP_PX if self._title else 0)
        width = across * (wide + _GAP_PX) + _GAP_PX
        body = head + down * (tall + _GAP_PX)
        legend = Legend(self._classes, (round(0.42 * width), width))
        page: Bytes = np.full((body + legend.height_px, width, 3), _PAPER, np.uint8)
        if self._title:
            write_text(page, self._title, (_GAP_PX, _GAP_PX), _TEXT_PX, _INK)
        for place, tile in enumerate(tiles):
            row, col = divmod(place, across)
            corner = (head + row * (tall + _GAP_PX), _GAP_PX + col * (wide + _GAP_PX))
            _paste(page, tile, corner)
        legend.draw(page[body:], self._mean(tiles))
        return page

    def _mean(self, tiles: Sequence[_Tile]) -> dict[str, float]:
        return {
            info.name: float(np.mean([tile.coverage.get(info.name, 0.0) for tile in tiles]))
            for info in self._classes
        }


def _paste(page: Bytes, tile: _Tile, corner: tuple[int, int]) -> None:
    rows, cols = tile.image.shape[:2]
    area = page[corner[0] : corner[0] + rows, corner[1] : corner[1] + cols]
    area[:] = tile.image
    label = area[rows - _TEXT_PX - 6 :, : 9 * _TEXT_PX]
    text = f"frame {tile.index}   {tile.time_s:.1f} s"
    np.multiply(label, 0.35, out=label, casting="unsafe")
    write_text(label, text, (3, 6), _TEXT_PX, _INK)
