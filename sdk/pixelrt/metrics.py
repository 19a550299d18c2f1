"""Metrics of masks, over whole data sets in constant memory, and of images."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from pixelrt.frames import UNLABELLED, foreign_ids

__all__ = ["UNLABELLED", "ConfusionMatrix", "foreign_ids", "mean_square", "psnr"]

_LARGEST = 255


def mean_square(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    """Mean squared difference of the bytes of two images, or of two batches, of one shape."""
    return float(np.mean(np.square(first.astype(np.float64) - second)))


def psnr(square: float) -> float:
    """Peak signal-to-noise ratio in dB of bytes with this mean squared difference; infinite for 0."""
    return 10 * math.log10(_LARGEST**2 / square) if square > 0 else math.inf


class ConfusionMatrix:
    """Counts of (true class, predicted class) pairs over any number of masks.

    Attributes:
        counts: int64[C, C]; row = true class, column = predicted class. Pixels whose true class is not in
            0..C-1 (CamVid's "unlabelled" 11, say) are ignored.
    """

    def __init__(self, num_classes: int) -> None:
        if num_classes < 1:
            raise ValueError(f"num_classes is {num_classes}, expected at least 1")
        self.counts: NDArray[np.int64] = np.zeros((num_classes, num_classes), np.int64)

    def add(self, truth: NDArray[np.uint8], predicted: NDArray[np.uint8]) -> None:
        """Count the pixels of one pair of masks.

        Args:
            truth: uint8 class ids of any shape.
            predicted: uint8 class ids of the same shape.

        Raises:
            ValueError: If the shapes differ, or a labelled pixel was predicted as a class outside 0..C-1.
        """
        if truth.shape != predicted.shape:
            raise ValueError(f"masks differ in shape: truth {truth.shape}, predicted {predicted.shape}")
        num_classes = len(self.counts)
        labelled = truth < num_classes
        predicted = predicted[labelled]
        if predicted.size and int(predicted.max()) >= num_classes:
            raise ValueError(f"predicted class {int(predicted.max())}, expected 0..{num_classes - 1}")
        pairs = truth[labelled].astype(np.int64) * num_classes + predicted
        self.counts += np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)

    def iou(self) -> NDArray[np.float64]:
        """Intersection over union per class, float64[C], 0..1; NaN for classes that never occurred."""
        hits = np.diag(self.counts).astype(np.float64)
        union = self.counts.sum(0) + self.counts.sum(1) - hits
        iou: NDArray[np.float64] = np.full(len(hits), np.nan)
        np.divide(hits, union, out=iou, where=union > 0)
        return iou

    def miou(self) -> float:
        """Mean of `iou` over the classes that occurred, 0..1; NaN where nothing was counted."""
        iou = self.iou()
        return float(np.nanmean(iou)) if np.isfinite(iou).any() else float("nan")

    def accuracy(self) -> float:
        """Share of labelled pixels whose class was predicted, 0..1; NaN where nothing was counted."""
        total = int(self.counts.sum())
        return float(np.trace(self.counts)) / total if total else float("nan")
