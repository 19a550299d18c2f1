"""What reports of every task are made of: words, tables and pictures."""

from __future__ import annotations

import base64
import math

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from pixelrt.manifest import ClassInfo
from pixelrt.markup import Html, element, join, table
from pixelrt_export.pictures import as_rgb, colored, difference, drawing_uri, image_uri, photo_uri
from pixelrt_export.report.words import decibels, percent, signed, similarity


class TestParts:
    @pytest.mark.parametrize(
        ("share", "said"),
        [
            (1.0, "100.00"),
            (0.99994, "99.99"),
            (0.999996, "99.9996"),
            (0.9999999, "99.999990"),
            (1 - 1e-12, "> 99.999999"),
            (0.5, "50.00"),
            (0.0, "0.00"),
        ],
    )
    def test_it_never_says_all_of_what_is_not_all(self, share: float, said: str) -> None:
        assert percent(share) == f"{said}\u202f%"

    @pytest.mark.parametrize(
        ("ssim", "said"),
        [(1.0, "1.00000"), (0.99984, "0.99984"), (0.999996, "0.9999960"), (1 - 1e-12, "> 0.9999999")],
    )
    def test_images_that_differ_are_never_fully_similar(self, ssim: float, said: str) -> None:
        assert similarity(ssim) == said

    def test_numbers(self) -> None:
        assert [decibels(value) for value in (None, math.inf, 63.7349)] == ["\u221e", "\u221e", "63.73"]
        assert [signed(value) for value in (0.001, -0.5, 2.0)] == ["0.00", "\u22120.50", "+2.00"]

    def test_markup_escapes_what_is_not_markup(self) -> None:
        built = element("p", "a < b", Html("<b>c</b>"), None, class_='"', aria_label="d & e", title=None)
        assert built == '<p class="&quot;" aria-label="d &amp; e">a &lt; b<b>c</b></p>'
        assert join("<", element("br")) == "&lt;<br>"
        assert element("img", src="x") == '<img src="x">'

    def test_a_table(self) -> None:
        made = table(["a", ">b\nsmall"], [["x", "1"], ["<", "2"]], caption="under it", total=True)
        assert "<small>small</small>" in made
        assert '<td class="num">1</td>' in made
        assert '<tr class="total"><th scope="row">&lt;</th>' in made
        assert made.endswith("under it</p>")

    def test_differing_pixels_are_magenta(self) -> None:
        frame = np.full((9, 9, 3), 128, np.uint8)
        first = np.zeros((9, 9), np.uint8)
        second = first.copy()
        second[4, 4] = 1
        marked = (difference(frame, first, second) == (255, 0, 160)).all(axis=2)
        assert marked.sum() == 9
        assert marked[3:6, 3:6].all()
        assert not (difference(frame, first, first) == (255, 0, 160)).all(axis=2).any()

    @pytest.mark.parametrize("channels", [1, 2, 3, 4])
    def test_frames_of_any_channels_can_be_shown(self, channels: int) -> None:
        frame = np.arange(4 * 4 * channels, dtype=np.uint8).reshape(4, 4, channels)
        shown = as_rgb(frame, "bgr")
        assert shown.shape == (4, 4, 3)
        assert shown[0, 0, 0] == (2 if channels >= 3 else 0)

    def test_small_images_are_shown_exactly(self) -> None:
        assert image_uri(np.zeros((64, 64, 3), np.uint8)).startswith("data:image/png;base64,")
        assert image_uri(np.zeros((64, 65, 3), np.uint8)).startswith("data:image/jpeg;base64,")

    def test_unlabelled_pixels_of_a_mask_are_black(self) -> None:
        mask = np.array([[0, 1, 255]], np.uint8)
        found = colored(mask, [ClassInfo(name="a", color=(1, 2, 3)), ClassInfo(name="b", color=(4, 5, 6))])
        np.testing.assert_array_equal(found, [[(1, 2, 3), (4, 5, 6), (0, 0, 0)]])

    def test_drawings_are_exact(self) -> None:
        mask: NDArray[np.uint8] = np.array([[0, 1], [1, 0]], np.uint8)
        classes = [ClassInfo(name="a", color=(1, 2, 3)), ClassInfo(name="b", color=(250, 0, 7))]
        uri = drawing_uri(colored(mask, classes))
        content = np.frombuffer(base64.b64decode(uri.split(",")[1]), np.uint8)
        decoded = cv2.imdecode(content, cv2.IMREAD_COLOR)[..., ::-1]
        np.testing.assert_array_equal(decoded, [[(1, 2, 3), (250, 0, 7)], [(250, 0, 7), (1, 2, 3)]])
        assert photo_uri(colored(mask, classes)).startswith("data:image/jpeg;base64,")
