"""Confusion matrix and IoU."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pixelrt.metrics import ConfusionMatrix, foreign_ids, mean_square, psnr

masks = hnp.arrays(np.uint8, (5, 7), elements=st.integers(0, 3))


@given(masks, masks)
def test_counts_every_labelled_pair_once(truth: np.ndarray, predicted: np.ndarray) -> None:
    confusion = ConfusionMatrix(4)
    confusion.add(truth, predicted)
    for row in range(4):
        for column in range(4):
            assert confusion.counts[row, column] == np.sum((truth == row) & (predicted == column))


@given(masks, masks)
def test_iou_is_intersection_over_union(truth: np.ndarray, predicted: np.ndarray) -> None:
    confusion = ConfusionMatrix(4)
    confusion.add(truth, predicted)
    for class_id, iou in enumerate(confusion.iou()):
        union = np.sum((truth == class_id) | (predicted == class_id))
        if union:
            assert iou == pytest.approx(np.sum((truth == class_id) & (predicted == class_id)) / union)
        else:
            assert np.isnan(iou)


def test_unlabelled_pixels_do_not_count() -> None:
    confusion = ConfusionMatrix(2)
    confusion.add(np.array([0, 1, 11, 255], np.uint8), np.array([0, 0, 1, 1], np.uint8))
    assert confusion.counts.tolist() == [[1, 0], [1, 0]]
    assert confusion.miou() == pytest.approx(0.25)
    assert confusion.accuracy() == pytest.approx(0.5)


def test_nothing_counted_is_not_a_number() -> None:
    assert np.isnan(ConfusionMatrix(3).miou())
    assert np.isnan(ConfusionMatrix(3).accuracy())


@pytest.mark.parametrize(
    ("truth", "predicted", "message"),
    [
        (np.zeros((2, 2), np.uint8), np.zeros((2, 3), np.uint8), r"truth \(2, 2\), predicted \(2, 3\)"),
        (np.zeros(3, np.uint8), np.full(3, 7, np.uint8), r"predicted class 7, expected 0\.\.1"),
    ],
)
def test_bad_masks_are_refused(truth: np.ndarray, predicted: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ConfusionMatrix(2).add(truth, predicted)


def test_ids_of_other_classes_are_found() -> None:
    labels = np.array([[0, 3], [4, 255]], np.uint8)
    assert foreign_ids(labels, 4) == []
    assert foreign_ids(labels, 3) == [4]
    assert foreign_ids(labels, 2) == [3, 4]


def test_psnr() -> None:
    """Against the definition, and scikit-image's value of the same arrays."""
    expected = np.zeros((1, 4, 4, 1), np.uint8)
    assert psnr(mean_square(expected, expected)) == math.inf
    assert psnr(mean_square(expected + 1, expected)) == pytest.approx(20 * math.log10(255))
    assert psnr(mean_square(expected, expected + 255)) == pytest.approx(0)
    metrics = pytest.importorskip("skimage.metrics")
    first, second = np.random.default_rng(0).integers(0, 256, (2, 1, 8, 12, 3), np.uint8)
    assert psnr(mean_square(first, second)) == pytest.approx(metrics.peak_signal_noise_ratio(first, second))
