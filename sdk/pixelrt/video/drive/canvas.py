"""Draws everything twice: into the picture with smooth edges, into the labels with hard ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pixelrt.dependency import require
from pixelrt.video.drive.light import Colour

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float64]

_PURPOSE = "drawing the procedural drive"
_FIXED = 4  # fractional bits of the coordinates given to OpenCV
_FAR_PX = 60000.0

Part = tuple[int, Colour, "int | None"]
"""A polygon among others: its number of points, its colour and its label."""


@dataclass(frozen=True, slots=True)
class Texture:
    """A picture for a quad: RGB, and where it has holes a mask, each at full, half, quarter, ... size."""

    levels: tuple[Bytes, ...]
    masks: tuple[Bytes, ...] = ()

    @classmethod
    def of(cls, image: Bytes, mask: Bytes | None = None) -> Texture:
        """A texture with its smaller copies, from uint8[H, W, 3] and uint8[H, W] (255: solid)."""
        cv2 = require("cv2", "video", _PURPOSE)
        levels, masks = [image], [] if mask is None else [mask]
        while min(levels[-1].shape[:2]) >= 32 and len(levels) < 5:
            size = (levels[-1].shape[1] // 2, levels[-1].shape[0] // 2)
            levels.append(cv2.resize(levels[-1], size, interpolation=cv2.INTER_AREA))
            if masks:
                masks.append(cv2.resize(masks[-1], size, interpolation=cv2.INTER_AREA))
        return cls(tuple(levels), tuple(masks))

    def pick(self, height_px: float) -> int:
        """The level whose height fits `height_px` best without flicker."""
        level = 0
        while level + 1 < len(self.levels) and self.levels[level + 1].shape[0] > 0.8 * height_px:
            level += 1
        return level


class Canvas:
    """A picture and its labels: `image` uint8[H, W, 3] RGB, `labels` uint8[H, W]."""

    def __init__(self, size: tuple[int, int]) -> None:
        self._cv2 = require("cv2", "video", _PURPOSE)
        self.image: Bytes = np.zeros((*size, 3), np.uint8)
        self.labels: Bytes = np.full(size, 11, np.uint8)

    def polygon(self, points: Floats, colour: Colour, label: int | None = None) -> None:
        """Fill a convex polygon float[N, 2]; without a label it is a detail of what lies below."""
        fixed = np.maximum(np.minimum(points, _FAR_PX), -_FAR_PX)
        fixed = np.rint(fixed * (1 << _FIXED)).astype(np.int32)
        self._cv2.fillConvexPoly(self.image, fixed, colour, self._cv2.LINE_AA, _FIXED)
        if label is not None:
            self._cv2.fillConvexPoly(self.labels, fixed, label, self._cv2.LINE_8, _FIXED)

    def polygons(self, points: Floats, parts: Sequence[Part]) -> None:
        """Fill convex polygons, one after another, from the points of all of them: float[N, 2]."""
        fixed = np.maximum(np.minimum(points, _FAR_PX), -_FAR_PX)
        fixed = np.rint(fixed * (1 << _FIXED)).astype(np.int32)
        fill, start = self._cv2.fillConvexPoly, 0
        for count, colour, label in parts:
            outline = fixed[start : start + count]
            fill(self.image, outline, colour, self._cv2.LINE_AA, _FIXED)
            if label is not None:
                fill(self.labels, outline, label, self._cv2.LINE_8, _FIXED)
            start += count

    def line(self, start: Floats, end: Floats, width_px: float, colour: Colour, label: int | None) -> None:
        """Draw a straight line as a polygon, never thinner than a pixel."""
        along = end - start
        length = float(np.hypot(along[0], along[1]))
        if length < 1e-6:
            return
        half = max(width_px, 1.0) / 2 * np.array([-along[1], along[0]]) / length
        self.polygon(np.stack([start + half, end + half, end - half, start - half]), colour, label)

    def disc(self, centre: Floats, radius: tuple[float, float], colour: Colour, label: int | None) -> None:
        """Fill an upright ellipse; `radius` is half its width and half its height in pixels."""
        ring = _ring(8 if max(radius) < 6 else 18)
        self.polygon(centre + ring * (max(radius[0], 0.5), max(radius[1], 0.5)), colour, label)

    def texture(self, quad: Floats, texture: Texture, table: Bytes, label: int) -> None:
        """Draw a texture into a quad float[4, 2] (top left, top right, bottom right, bottom left).

        `table` (uint8[1, 256, 3]) is the light that falls on it. Where the texture has holes, what lies
        behind shows through.
        """
        cv2, (rows, cols) = self._cv2, self.labels.shape
        low, high = quad.min(axis=0), quad.max(axis=0)
        left, top = max(int(low[0]) - 1, 0), max(int(low[1]) - 1, 0)
        right, bottom = int(min(high[0] + 2, cols)), int(min(high[1] + 2, rows))
        if right <= left or bottom <= top:
            return
        level = texture.pick(float(max(quad[3, 1] - quad[0, 1], quad[2, 1] - quad[1, 1])))
        source = texture.levels[level]
        tall, wide = source.shape[:2]
        corners = np.array([[0, 0], [wide, 0], [wide, tall], [0, tall]], np.float32)
        placed = (quad - (left, top)).astype(np.float32)
        if _upright(quad):
            warp, matrix = cv2.warpAffine, cv2.getAffineTransform(corners[:3], placed[:3])
        else:
            warp, matrix = cv2.warpPerspective, cv2.getPerspectiveTransform(corners, placed)
        area = (right - left, bottom - top)
        lit_first = tall * wide < area[0] * area[1]
        source = cv2.LUT(source, table) if lit_first else source
        drawn = warp(source, matrix, area, borderMode=cv2.BORDER_REPLICATE)
        drawn = drawn if lit_first else cv2.LUT(drawn, table)
        if texture.masks:
            mask = cv2.compare(warp(texture.masks[level], matrix, area), 100, cv2.CMP_GT)
        else:
            mask = np.zeros((area[1], area[0]), np.uint8)
            fixed = np.rint((quad - (left, top)) * (1 << _FIXED)).astype(np.int32)
            cv2.fillConvexPoly(mask, fixed, 255, cv2.LINE_8, _FIXED)
        cv2.copyTo(drawn, mask, self.image[top:bottom, left:right])
        cv2.copyTo(np.full_like(mask, label), mask, self.labels[top:bottom, left:right])


@lru_cache
def _ring(count: int) -> Floats:
    """Points on a circle of radius 1."""
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def _upright(quad: Floats) -> bool:
    """Whether a quad is a rectangle with level sides, as everything is that faces the camera."""
    return bool(
        quad[0, 1] == quad[1, 1]
        and quad[2, 1] == quad[3, 1]
        and quad[0, 0] == quad[3, 0]
        and quad[1, 0] == quad[2, 0]
    )
