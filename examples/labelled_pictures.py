"""Pictures with a class for each pixel, and batches of them, as two training scripts share them.

A folder in the CamVid layout holds a folder per split, each with images/ (JPEG or PNG) and labels/ (PNG, one
byte per pixel, the same file names).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Image = NDArray[np.uint8]
Labels = NDArray[np.uint8]
Pair = tuple[Image, Labels]


def load_split(folder: Path, unlabelled: int) -> list[Pair]:
    """Every (image, labels) pair of one split, in memory.

    Args:
        folder: The split's.
        unlabelled: What ids above it become: the number of classes.

    Raises:
        SystemExit: If it holds no pictures, or one that cannot be used.
    """
    images = sorted(path for path in (folder / "images").glob("*") if path.suffix in {".jpg", ".png"})
    if not images:
        raise SystemExit(f"{folder / 'images'} holds no .jpg or .png; expected the CamVid layout, see --help")
    return [load_pair(path, folder / "labels" / f"{path.stem}.png", unlabelled) for path in images]


def load_pair(image_path: Path, labels_path: Path, unlabelled: int) -> Pair:
    """One picture, uint8[H, W, 3] RGB, and its class ids, uint8[H, W].

    Raises:
        SystemExit: If one of them cannot be read, or their sizes differ.
    """
    image = cv2.imread(str(image_path), cv2.IMREAD_COLOR)
    labels = cv2.imread(str(labels_path), cv2.IMREAD_GRAYSCALE)
    if image is None or labels is None or image.shape[:2] != labels.shape:
        raise SystemExit(f"{image_path} and {labels_path}: one is missing, damaged, or of another size")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.minimum(labels, unlabelled).astype(np.uint8)


@dataclass(frozen=True)
class Batches:
    """Batches of one epoch, prepared ahead in a thread: images as `normalise` gives them, int64[N, H, W] ids.

    Every sample draws from a generator of its own, seeded by (seed, epoch, position): the order in which
    threads finish cannot change what is learnt.
    """

    pairs: list[Pair]
    size: int
    """Pictures of a batch; what is left at the end of an epoch is left out."""
    seed: int
    epoch: int
    vary: Callable[[Pair, np.random.Generator], Pair]
    """Makes a sample of a picture."""
    normalise: Callable[[Tensor], Tensor]
    """From uint8[N, H, W, 3] to what the network takes."""

    def __len__(self) -> int:
        return len(self.pairs) // self.size

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(len(self.pairs))
        with ThreadPoolExecutor(max_workers=1) as pool:
            ahead = pool.submit(self._batch, order, 0)
            for index in range(len(self)):
                ready = ahead.result()
                if index + 1 < len(self):
                    ahead = pool.submit(self._batch, order, index + 1)
                yield ready

    def _batch(self, order: NDArray[np.int64], index: int) -> tuple[Tensor, Tensor]:
        positions = range(index * self.size, (index + 1) * self.size)
        samples = [self._sample(int(order[position]), position) for position in positions]
        images = np.stack([image for image, _ in samples])
        labels = np.stack([labels for _, labels in samples])
        return self.normalise(torch.from_numpy(images)), torch.from_numpy(labels).long()

    def _sample(self, which: int, position: int) -> Pair:
        return self.vary(self.pairs[which], np.random.default_rng((self.seed, self.epoch, position)))
