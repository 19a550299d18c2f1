"""Pre-processing on the host, as most programs have it: what PixelRT moves into the graph."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpu.contender import Bytes
from pixelrt.manifest import Preprocess


def to_tensor(frame: Bytes, form: Preprocess) -> NDArray[np.float32]:
    """OpenCV's resize, then NumPy: 0..1, mean and standard deviation, channels first.

    Args:
        frame: uint8[H, W, C].
        form: Size, mean and std of the network.

    Returns:
        float32[1, C, h, w], contiguous.
    """
    import cv2

    height, width = form.size
    image = cv2.resize(frame, (width, height), interpolation=cv2.INTER_LINEAR).astype(np.float32) / 255
    image = (image - np.array(form.mean, np.float32)) / np.array(form.std, np.float32)
    return np.ascontiguousarray(image.transpose(2, 0, 1)[np.newaxis])
