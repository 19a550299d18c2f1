"""Results as a stream delivers them, made by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelrt.segmentation import Segmentation
from pixelrt.video.artist import Artist, Picture
from pixelrt.video.delivery import Delivery, Times
from pixelrt.video.frame import Frame


def delivery(frame: Frame, result: Segmentation) -> Delivery:
    """A result of its frame, a millisecond a stage; the overlay has no legend."""
    start_s = frame.captured_s
    times = Times(
        captured_s=start_s,
        received_s=start_s + 0.001,
        submitted_s=start_s + 0.002,
        computed_s=start_s + 0.003,
        delivered_s=start_s + 0.004,
    )
    picture = Picture(Artist(result.classes, legend=False), frame, result)
    size = frame.size if result.mask is None else (result.mask.shape[0], result.mask.shape[1])
    return Delivery(frame, result, times=times, picture=picture, size=size)


class OnGpu:
    """An image that says that it is on a GPU, and can be copied from there as those of CuPy can."""

    def __init__(self, image: NDArray[np.uint8]) -> None:
        self.shape, self.dtype, self._image = image.shape, image.dtype, image
        self.__cuda_array_interface__: dict[str, Any] = {"shape": image.shape}

    def get(self) -> NDArray[np.uint8]:
        return self._image.copy()
