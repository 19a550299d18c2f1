"""What `pixelrt generate` shows of an image: enlarged, beside what it was made from, on a page."""

from __future__ import annotations

import numpy as np

from pixelrt.cli.generate_inputs import Bytes
from pixelrt.cli.generate_plan import Made
from pixelrt.errors import InputError
from pixelrt.frames import fitted, nearest
from pixelrt.manifest import ClassInfo, GenerationManifest

LARGEST_PX = 100_000_000
"""Of a picture, and of a sheet."""
_GAP_PX = 2


class Pictures:
    """Makes pictures of images: enlarged, and beside what they were made from."""

    def __init__(self, manifest: GenerationManifest, *, scale: int, pairs: bool, masks: bool) -> None:
        """Nothing is made yet.

        Args:
            manifest: Of the generator.
            scale: How often every pixel is repeated, down and across.
            pairs: Whether each image is shown beside its mask or image.
            masks: Whether they are made from masks.

        Raises:
            InputError: If the pictures would be too large.
        """
        self._scale, self.pairs = scale, pairs
        self._size = manifest.output.size
        self.classes: tuple[ClassInfo, ...] = manifest.mask.classes if manifest.mask and masks else ()
        self._palette = np.zeros((256, 3), np.uint8)
        self._palette[: len(self.classes)] = [info.color for info in self.classes] or np.zeros((0, 3))
        rows, cols = self.size
        if rows * cols > LARGEST_PX:
            raise InputError(
                f"--scale {scale} makes pictures of {rows}x{cols}, and they have at most "
                f"{LARGEST_PX // 10**6} million pixels; give a smaller one"
            )

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of a picture."""
        height, width = self._size
        both = 2 * width * self._scale + _GAP_PX if self.pairs else width * self._scale
        return height * self._scale, both

    def of(self, made: Made) -> list[Bytes]:
        """One for each image: uint8[H, W, C], C 1 or 3 (RGB)."""
        shown = [_enlarged(image, self._scale) for image in made.generated.images]
        if not self.pairs:
            return shown
        return [self._beside(given, image) for given, image in zip(made.given, shown, strict=True)]

    def _beside(self, given: Bytes, image: Bytes) -> Bytes:
        height, width, channels = image.shape
        page = np.zeros((height, 2 * width + _GAP_PX, 3), np.uint8)
        if given.ndim == 2:
            mask = np.asarray(nearest(given, height, width))
            page[:, :width] = self._palette[mask]
        else:
            page[:, :width] = _enlarged(np.asarray(fitted(given, self._size)), self._scale)
        page[:, width + _GAP_PX :] = image if channels == 3 else np.repeat(image, 3, axis=2)
        return page


def _enlarged(image: Bytes, scale: int) -> Bytes:
    return image if scale == 1 else image.repeat(scale, axis=0).repeat(scale, axis=1)
