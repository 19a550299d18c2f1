"""The bundle of the self-test, with frames and the masks that they must have.

tests/support/self_test_bundle.py makes the files: a U-Net in small, FP16, all of whose values are small whole
numbers for frames of plain blocks, so that every correct backend gives the very same masks.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pixelrt.bundle import Bundle

Frames = NDArray[np.uint8]
FOLDER = Path(__file__).with_name("tiny")
BLOCK, LEVELS, STEP = 8, 6, 51


def tiny_bundle() -> Bundle:
    """The bundle, in the installed package."""
    return Bundle.open(FOLDER)


def golden() -> tuple[Frames, Frames]:
    """Frames uint8[N, H, W, 3], and their masks uint8[N, H, W] as PyTorch computed them in float64."""
    with np.load(FOLDER / "golden.npz") as packed:
        return packed["frames"], packed["masks"]


def block_frames(count: int, seed: int, size: tuple[int, int] = (48, 64)) -> Frames:
    """Other frames of the same kind, uint8[count, H, W, 3]."""
    height, width = size
    shape = (count, height // BLOCK, width // BLOCK, 3)
    blocks = np.random.default_rng(seed).integers(0, LEVELS, shape) * STEP
    frames: Frames = blocks.repeat(BLOCK, axis=1).repeat(BLOCK, axis=2).astype(np.uint8)
    return frames


def smooth_frames(count: int, seed: int, size: tuple[int, int], channels: int = 3) -> Frames:
    """Frames of soft colours for any network, uint8[count, H, W, channels]."""
    height, width = size
    random = np.random.default_rng(seed)
    rows, columns = np.linspace(0, 2 * np.pi, height), np.linspace(0, 2 * np.pi, width)
    frames = np.empty((count, height, width, channels), np.uint8)
    for frame in frames:
        for channel in range(channels):
            waves = random.uniform(0.5, 4, 4)
            phase = np.sin(waves[0] * rows + waves[1])[:, np.newaxis] + np.sin(waves[2] * columns + waves[3])
            frame[..., channel] = 127.5 + 63.5 * phase
    return frames
