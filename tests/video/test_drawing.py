"""Overlays, text and the legend."""

from __future__ import annotations

import dataclasses

import av
import cv2
import numpy as np
import pytest
from deliveries import delivery
from PIL import Image

from pixelrt.manifest import ClassInfo
from pixelrt.segmentation import Latency, Segmentation
from pixelrt.video.artist import Artist
from pixelrt.video.drawing import fill_rounded, folded, text_cover, write_text
from pixelrt.video.frame import Frame
from pixelrt.video.legend import Legend, percent
from pixelrt.web.view import jpeg, png

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


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("Straße", "Strasse"),
        ("Bürgersteig", "Burgersteig"),
        ("jízdní pruh", "jizdni pruh"),
        ("żółć \u2013 łąka", "zolc - laka"),
        ("fi\ufb01 ½", "fifi 1?2"),
        ("Ærø", "AEro"),
        ("道路", "??"),
    ],
)
def test_the_fonts_of_opencv_4_have_ascii_alone(
    name: str, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert folded(name) == shown
    monkeypatch.delattr(cv2, "FontFace", raising=False)
    text_cover.cache_clear()
    try:
        np.testing.assert_array_equal(text_cover(name, 24), text_cover(shown, 24))
    finally:
        text_cover.cache_clear()


@pytest.mark.skipif(not hasattr(cv2, "FontFace"), reason="OpenCV 4 has no such fonts")
def test_the_fonts_of_opencv_5_have_other_alphabets() -> None:
    shapes = [text_cover(name, 24).tobytes() for name in ("ß", "ä", "a", "ж", "路", "道", "?", "??")]
    assert len({*shapes}) == len(shapes)


def test_nobody_draws_into_the_overlay_that_all_share() -> None:
    """Who wants to draws on a copy; all that encodes or shows an overlay takes it as it is."""
    frame = Frame(image=np.full((96, 144, 3), 90, np.uint8), index=0, time_s=0.0, name="0")
    shown = delivery(frame, segmentation((48, 72), (96, 144)))
    overlay = shown.overlay()
    before = overlay.copy()
    with pytest.raises(cv2.error, match="readonly"):
        cv2.putText(overlay, "stop", (5, 50), cv2.FONT_HERSHEY_SIMPLEX, 1, (255, 255, 255))
    with pytest.raises(ValueError, match="read-only"):
        overlay[:] = 0
    np.testing.assert_array_equal(shown.overlay(), before)
    np.testing.assert_array_equal(av.VideoFrame.from_ndarray(overlay, format="rgb24").to_ndarray(), before)
    np.testing.assert_array_equal(Image.fromarray(overlay), before)
    np.testing.assert_array_equal(
        cv2.imdecode(np.frombuffer(png(overlay, "rgb"), np.uint8), 1)[..., ::-1], before
    )
    assert jpeg(overlay, "rgb", quality=80, longest_side=50)


@pytest.mark.parametrize(
    "corner", [(0, 0), (-5, -5), (25, 35), (28, 38), (100, 100), (-100, 0), (-13, 3), (2, -70)]
)
def test_what_lies_outside_is_cut_off(corner: tuple[int, int]) -> None:
    rng = np.random.default_rng(3)
    wide = rng.integers(0, 256, (430, 640, 3)).astype(np.uint8)
    narrow = wide[200:230, 300:340].copy()
    moved = (corner[0] + 200, corner[1] + 300)
    assert write_text(narrow, "road", corner, 12, (255, 255, 255)) > 12
    write_text(wide, "road", moved, 12, (255, 255, 255))
    fill_rounded(narrow, (*corner, 14, 18), (200, 100, 50), 4)
    fill_rounded(wide, (*moved, 14, 18), (200, 100, 50), 4)
    np.testing.assert_array_equal(narrow, wide[200:230, 300:340])


def test_text_is_blended_with_what_lies_beneath() -> None:
    image = np.random.default_rng(4).integers(0, 256, (40, 300, 3)).astype(np.uint8)
    cover = text_cover("pedestrian", 25)[..., np.newaxis]
    beneath, colour = image[5:30, 7 : 7 + cover.shape[1]].copy(), np.array((250, 20, 90), np.float32)
    write_text(image, "pedestrian", (5, 7), 25, (250, 20, 90))
    drawn = image[5:30, 7 : 7 + cover.shape[1]]
    np.testing.assert_allclose(drawn, beneath * (1 - cover) + colour * cover, atol=2)


def test_a_box_has_round_corners_and_its_colour() -> None:
    image = np.full((40, 60, 3), 9, np.uint8)
    fill_rounded(image, (10, 20, 16, 24), (200, 100, 50), 5)
    assert (image[10:26, 25:39] == (200, 100, 50)).all() and (image[15:21, 20:44] == (200, 100, 50)).all()
    assert (image[[10, 10, 25, 25], [20, 43, 20, 43]] < 60).all()  # the corners
    image[10:26, 20:44] = 9
    assert (image == 9).all()


@pytest.mark.parametrize("legend", [True, False])
def test_frames_of_either_colour_order_are_drawn_alike(legend: bool) -> None:
    rgb = np.random.default_rng(5).integers(0, 256, (360, 640, 3)).astype(np.uint8)
    artist = Artist(classes(*TOWN), alpha=0.4, legend=legend)
    drawn = []
    for color, image in (("rgb", rgb), ("bgr", np.ascontiguousarray(rgb[..., ::-1]))):
        frame = Frame(image=image, index=0, time_s=0.0, name="0", color=color)  # type: ignore[arg-type]
        result = dataclasses.replace(segmentation((90, 160), (360, 640)), color=color)  # type: ignore[arg-type]
        before = image.copy()
        drawn.append(artist.draw(frame, result))
        np.testing.assert_array_equal(image, before)
    np.testing.assert_array_equal(*drawn)
