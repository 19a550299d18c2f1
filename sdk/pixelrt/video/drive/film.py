"""The drive as frames with labels, and single scenes for training."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pixelrt.dependency import require
from pixelrt.errors import SourceError
from pixelrt.video.drive import street
from pixelrt.video.drive.world import World

Bytes = NDArray[np.uint8]
_SMALLEST_PX = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class DriveOptions:
    """What to drive.

    Raises:
        SourceError: If a value cannot be used.
    """

    frames: int = 300
    size: tuple[int, int] = (720, 1280)
    """Height and width in pixels."""
    seed: int = 7
    """Another seed is another town, camera and light."""
    fps: float = 25.0

    def __post_init__(self) -> None:
        if len(self.size) != 2 or min(self.size) < _SMALLEST_PX:
            raise SourceError(
                f"a drive of size {self.size} cannot be drawn; give height and width of at least "
                f"{_SMALLEST_PX} pixels, such as (720, 1280)"
            )
        if self.frames < 1:
            raise SourceError(f"a drive has at least 1 frame, and {self.frames} were asked for")
        if not 0 < self.fps < float("inf"):
            raise SourceError(f"frames per second must be above 0, and {self.fps} was given; try 25")
        if self.seed < 0:
            raise SourceError(f"a seed is 0 or more, and {self.seed} was given")


class Drive:
    """A drive with exact ground truth. The same options and index always give the same bytes."""

    def __init__(self, options: DriveOptions) -> None:
        self.options = options
        self._world = World(options.seed, options.size)

    def __len__(self) -> int:
        return self.options.frames

    def frame(self, index: int) -> tuple[Bytes, Bytes]:
        """One frame uint8[H, W, 3] RGB and its labels uint8[H, W].

        Raises:
            SourceError: If the index is not within the drive.
        """
        if not 0 <= index < self.options.frames:
            raise SourceError(
                f"frame {index} is outside the drive, which has frames 0 to {self.options.frames - 1}"
            )
        return _photograph(self._world, index / self.options.fps, index)

    def __iter__(self) -> Iterator[tuple[Bytes, Bytes]]:
        for index in range(self.options.frames):
            yield self.frame(index)


def scene(seed: int, size: tuple[int, int]) -> tuple[Bytes, Bytes]:
    """One random street, for training: uint8[H, W, 3] RGB and labels uint8[H, W].

    Raises:
        SourceError: If the seed or the size (height, width) cannot be used.
    """
    return Drive(DriveOptions(frames=1, size=size, seed=seed)).frame(0)


def _photograph(world: World, time_s: float, index: int) -> tuple[Bytes, Bytes]:
    """Draw a view and add what lens and sensor do to it."""
    cv2 = require("cv2", "video", "drawing the procedural drive")
    canvas, light, (rows, cols) = street.draw(world, time_s), world.light, world.size
    soft = cv2.GaussianBlur(canvas.image, (3, 3), light.blur_px)
    seen = cv2.LUT(soft, light.sensor_table(1 + 0.02 * float(np.sin(0.7 * time_s))))
    row, col = (index * 13) % 32, (index * 29) % 32
    grain = world.paints.noise[row : row + rows, col : col + cols]
    return np.asarray(cv2.addWeighted(seen, 1.0, grain, 1.0, -128.0), np.uint8), canvas.labels
