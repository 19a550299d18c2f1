"""The pinhole camera behind the windscreen, and the road that it follows."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

BEND_STEP_M = 0.5
NEAR_M = 0.8
"""Nothing is projected from nearer than this."""


@dataclass(frozen=True, slots=True)
class Path:
    """The centre line of the road: two sine waves, so that any stretch of it is known at once."""

    sway_m: tuple[float, float]
    wave_m: tuple[float, float]
    phase: tuple[float, float]

    def bend(self, start_m: float, ahead_m: Floats) -> Floats:
        """How far right the road has gone, `ahead_m` metres on, seen along its heading at `start_m`."""
        total = np.zeros_like(ahead_m)
        for sway, wave, phase in zip(self.sway_m, self.wave_m, self.phase, strict=True):
            at = start_m / wave + phase
            total += sway * (np.sin(at + ahead_m / wave) - math.sin(at) - math.cos(at) * ahead_m / wave)
        return total


@dataclass(frozen=True, slots=True, kw_only=True)
class Camera:
    """One view: where the camera is and how it looks.

    Points are `(x, y, z)` in metres: right of the road's centre, above the ground, ahead along the road.
    """

    size: tuple[int, int]
    focal_px: float
    horizon_px: float
    centre_px: float
    height_m: float
    offset_m: float
    travelled_m: float
    bends: Floats
    """How far right the road has gone at every `BEND_STEP_M` ahead."""

    def project(self, points: Floats) -> Floats:
        """Points float[N, 3] in metres to pixels float[N, 2] as `(column, row)`."""
        z = np.maximum(points[:, 2], NEAR_M)
        scale = self.focal_px / z
        pixels = np.empty((len(z), 2))
        pixels[:, 0] = self.centre_px + scale * (points[:, 0] - self.offset_m + self.bend(z))
        pixels[:, 1] = self.horizon_px + scale * (self.height_m - points[:, 1])
        return pixels

    def bend(self, z: Floats) -> Floats:
        """How far right the road has gone at the distances `z`; constant beyond the last one known."""
        steps = np.minimum(z / BEND_STEP_M, len(self.bends) - 1.001)
        low = steps.astype(np.intp)
        part = steps - low
        bends: Floats = self.bends[low] * (1 - part) + self.bends[low + 1] * part
        return bends

    def scale(self, z: float) -> float:
        """Pixels per metre at the distance `z`."""
        return self.focal_px / max(z, NEAR_M)

    def ground_rows(self) -> tuple[int, Floats]:
        """The first row of the picture that shows ground, and the distance in metres of every row from it."""
        first = min(max(math.floor(self.horizon_px) + 1, 0), self.size[0])
        rows = np.arange(first, self.size[0]) + 0.5
        far: Floats = self.focal_px * self.height_m / np.maximum(rows - self.horizon_px, 0.5)
        return first, far
