"""The procedural drive: deterministic, varied, and with labels that fit the picture."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from pixelrt.errors import SourceError
from pixelrt.video.drive import Drive, DriveOptions, scene

SMALL = (144, 192)


def test_frames_have_the_promised_shape_and_type() -> None:
    drive = Drive(DriveOptions(frames=3, size=SMALL))
    image, labels = drive.frame(2)
    assert len(drive) == 3
    assert image.shape == (144, 192, 3)
    assert labels.shape == (144, 192)
    assert image.dtype == labels.dtype == np.dtype(np.uint8)
    assert labels.max() <= 11


def test_a_frame_does_not_depend_on_what_was_drawn_before() -> None:
    options = DriveOptions(frames=400, size=SMALL, seed=3)
    straight = Drive(options)
    wanted = [straight.frame(index) for index in (0, 5, 399)]
    other = Drive(options)
    for index, (image, labels) in zip((399, 5, 0), reversed(wanted), strict=True):
        again, labels_again = other.frame(index)
        np.testing.assert_array_equal(again, image)
        np.testing.assert_array_equal(labels_again, labels)


def test_iterating_gives_every_frame_once() -> None:
    drive = Drive(DriveOptions(frames=4, size=SMALL))
    frames = list(drive)
    assert len(frames) == 4
    np.testing.assert_array_equal(frames[3][0], drive.frame(3)[0])


def test_seeds_and_frames_differ() -> None:
    first, second = scene(1, SMALL), scene(2, SMALL)
    assert (first[1] != second[1]).mean() > 0.1
    drive = Drive(DriveOptions(frames=26, size=SMALL))
    assert (drive.frame(0)[1] != drive.frame(25)[1]).mean() > 0.005


def test_motion_is_smooth() -> None:
    drive = Drive(DriveOptions(frames=20, size=SMALL))
    labels = [frame[1] for frame in drive]
    changes = [float((a != b).mean()) for a, b in pairwise(labels)]
    assert 0 < np.median(changes) < 0.05


def test_a_long_drive_needs_no_preparation() -> None:
    image, labels = Drive(DriveOptions(frames=10**7, size=SMALL)).frame(10**7 - 1)
    assert image.std() > 10
    assert (labels == 3).mean() > 0.1


def test_class_shares_are_those_of_a_street() -> None:
    counts = np.zeros(12)
    for seed in range(24):
        counts += np.bincount(scene(seed, SMALL)[1].ravel(), minlength=12)
    share = counts / counts.sum()
    least = [0.08, 0.10, 0.004, 0.20, 0.02, 0.04, 0.002, 0.004, 0.01, 0.001, 0.001, 0.0]
    most = [0.30, 0.35, 0.03, 0.48, 0.15, 0.25, 0.03, 0.05, 0.15, 0.03, 0.03, 0.06]
    assert (share >= least).all(), share.round(4)
    assert (share <= most).all(), share.round(4)


def test_labels_lie_where_people_expect_them() -> None:
    labels = np.stack([scene(seed, SMALL)[1] for seed in range(8)])
    upper, lower = labels[:, :36], labels[:, 100:130]
    assert not np.isin(upper, (3, 4, 8)).any()
    assert not (lower == 0).any()
    assert (lower == 3).mean() > 0.5


def test_labels_follow_the_picture() -> None:
    """Where the label changes from sky to something, the picture changes too."""
    image, labels = scene(5, (360, 480))
    grey = image.mean(axis=2)
    sky, above = labels == 0, np.roll(labels, 4, axis=0) == 0
    sky[:4] = above[:4] = False
    border = ~sky & above
    steps = np.abs(grey - np.roll(grey, 8, axis=0))
    assert steps[border].mean() > 3 * steps[sky & above].mean()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": (32, 640)}, "at least 64 pixels"),
        ({"frames": 0}, "at least 1 frame"),
        ({"fps": 0.0}, "above 0"),
        ({"fps": float("nan")}, "above 0"),
        ({"seed": -1}, "0 or more"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SourceError, match=message):
        DriveOptions(**options)


@pytest.mark.parametrize("index", [-1, 3])
def test_an_index_outside_the_drive_is_refused(index: int) -> None:
    with pytest.raises(SourceError, match="frames 0 to 2"):
        Drive(DriveOptions(frames=3, size=SMALL)).frame(index)
