"""Bytes of frames as a network's input, a second time: by NumPy and PyTorch, not by the deployed graph."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]


def normalised_frames(
    frames: Bytes | Floats, *, mean: Sequence[float], std: Sequence[float], swap: bool
) -> Floats:
    """A network's image float32[N, C, h, w] from frames [N, h, w, C] at its size.

    Args:
        frames: Bytes, or what lies between them after resizing.
        mean: Per channel in the network's order, of 0..1 pixels.
        std: Per channel in the network's order, of 0..1 pixels.
        swap: Whether the network sees the first and the third channel exchanged.
    """
    image = frames.astype(np.float32)
    if swap:
        image = image[..., [2, 1, 0, *range(3, image.shape[-1])]]
    means, stds = np.array(mean, np.float64), np.array(std, np.float64)
    image = image * (1 / (255 * stds)).astype(np.float32) + (-means / stds).astype(np.float32)
    return np.ascontiguousarray(image.transpose(0, 3, 1, 2))


def resized_bilinear(values: Floats, size: tuple[int, int]) -> Floats:
    """float32[N, K, h', w'] as float32[N, K, h, w]: bilinear with half-pixel centres, no antialiasing."""
    if tuple(values.shape[2:]) == size:
        return values
    tensor = torch.from_numpy(np.ascontiguousarray(values))
    tensor = torch.nn.functional.interpolate(tensor, size, mode="bilinear", align_corners=False)
    result: Floats = tensor.numpy()
    return result
