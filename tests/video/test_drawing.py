"""Overlays, text and the legend."""

from __future__ import annotations

import numpy as np
import pytest

from pixelrt.manifest import ClassInfo
from pixelrt.segmentation import Latency, Segmentation
from pixelrt.video.drawing import text_cover, write_text
from pixelrt.video.legend import Legend, percent

TOWN = (
    "sky",
    "building",
    "pole",
    "road",
    "pavement",
    "tree",
    "sign",
    "fence",
    "car",
    "pedestrian",
    "bicyclist",
)


def classes(*names: str) -> tuple[ClassInfo, ...]:
    rng = np.random.default_rng(len(names))
    return tuple(
        ClassInfo(name=name, color=tuple(int(value) for value in rng.integers(60, 256, 3)))  # type: ignore[arg-type]
        for name in names
    )


def segmentation(size: tuple[int, int], frame_size: tuple[int, int]) -> Segmentation:
    mask = np.random.default_rng(1).integers(0, len(TOWN), size).astype(np.uint8)
    return Segmentation(
        name="scene", classes=classes(*TOWN), frame_size=frame_size, latency=Latency(0, 0, 0), mask=mask
    )


@pytest.mark.parametrize(
    "size", [(64, 64), (360, 480), (360, 640), (540, 960), (720, 1280), (1080, 1920), (2160, 3840)]
)
def test_every_class_of_a_town_is_shown_and_the_picture_stays_free(size: tuple[int, int]) -> None:
    legend = Legend(classes(*TOWN), size)
    assert legend.text_px >= 9
    if min(size) >= 360:
        assert legend.shown == TOWN
        assert legend.height_px < 0.2 * size[0]
    image = np.full((*size, 3), 128, np.uint8)
    legend.draw(image, dict.fromkeys(TOWN, 1 / 11))
    assert (image[: size[0] - legend.height_px] == 128).all()
    strip = image[size[0] - legend.height_px :]
    assert strip.max() > 200  # letters
    assert np.median(strip) < 60  # on a dark ground


def test_entries_do_not_touch_and_do_not_move() -> None:
    """Whatever the shares are, a class stays where it is."""
    legend = Legend(classes(*TOWN), (720, 1280))
    pictures = []
    for share in (0.0, 0.004, 1.0):
        image = np.full((720, 1280, 3), 128, np.uint8)
        legend.draw(image, dict.fromkeys(TOWN, share))
        pictures.append(image[-legend.height_px :].max(axis=2) > 60)
    columns = [picture.any(axis=0) for picture in pictures]
    starts = [np.flatnonzero(np.diff(column.astype(int)) == 1)[0] for column in columns]
    assert len(set(starts)) == 1
    assert not columns[-1][-4:].any()


def test_many_classes_fill_three_rows() -> None:
    names = [f"class {number}" for number in range(150)]
    legend = Legend(classes(*names), (720, 1280))
    assert legend.shown == tuple(names[: len(legend.shown)])
    assert 18 <= len(legend.shown) < 150
    assert legend.height_px < 0.2 * 720


def test_a_single_long_name_fits_somehow() -> None:
    image = np.zeros((90, 120, 3), np.uint8)
    Legend(classes("a class with a name much longer than the picture is wide"), (90, 120)).draw(image, {})


def test_no_classes_no_legend() -> None:
    image = np.full((90, 120, 3), 7, np.uint8)
    Legend((), (90, 120)).draw(image, {})
    assert (image == 7).all()


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.0, "0 %"), (0.0004, "0 %"), (0.004, "0.4 %"), (0.0099, "1 %"), (0.123, "12 %"), (1.0, "100 %")],
)
def test_percent(share: float, text: str) -> None:
    assert percent(share) == text


@pytest.mark.parametrize("height", [9, 12, 17, 25, 40])
def test_text_has_ink_and_room(height: int) -> None:
    cover = text_cover("pedestrian 12 %", height)
    assert cover.shape[0] == height
    assert cover.max() > 0.7
    assert cover.min() == 0
    assert not cover.flags.writeable
    assert cover.shape[1] < 15 * height


@pytest.mark.parametrize("corner", [(0, 0), (-5, -5), (25, 35), (28, 38), (100, 100), (-100, 0)])
def test_text_outside_is_cut_off(corner: tuple[int, int]) -> None:
    image = np.zeros((30, 40, 3), np.uint8)
    assert write_text(image, "road", corner, 12, (255, 255, 255)) > 12
