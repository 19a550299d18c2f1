"""JPEG of cameras: any kind is read, and one that is not whole is refused."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from pixelrt.manifest import ColorOrder
from pixelrt.video.sources.jpeg import JpegDecoder, JpegError, up_to_its_end

SIZE = (98, 131)
SLOPES = np.stack(np.broadcast_arrays(*np.ogrid[: SIZE[0], : SIZE[1]], 90), axis=2).astype(np.uint8)
"""BGR: blue grows downwards, green to the right."""


def encoded(image: NDArray[np.uint8] = SLOPES, *options: int) -> bytes:
    found, content = cv2.imencode(".jpg", image, options)
    assert found
    return bytes(content)


def passes(content: bytes) -> bool:
    try:
        return JpegDecoder("bgr", "a test").decode(content).size > 0
    except JpegError:
        return False


@pytest.mark.parametrize("color", ["rgb", "bgr"])
@pytest.mark.parametrize(
    "options",
    [
        (),
        (cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
        (cv2.IMWRITE_JPEG_RST_INTERVAL, 2),
        (cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
        (cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422),
    ],
)
def test_kinds(options: tuple[int, ...], color: ColorOrder) -> None:
    image = JpegDecoder(color, "a test").decode(encoded(SLOPES, *options))
    assert (image.dtype, image.shape) == (np.uint8, (*SIZE, 3))
    np.testing.assert_allclose(image[..., :: 1 if color == "bgr" else -1], SLOPES, atol=8)


def test_grey() -> None:
    image = JpegDecoder("rgb", "a test").decode(encoded(np.ascontiguousarray(SLOPES[..., 0])))
    np.testing.assert_allclose(image, np.repeat(SLOPES[..., :1], 3, axis=2), atol=4)


def test_the_buffer_of_a_camera_is_longer() -> None:
    np.testing.assert_array_equal(
        JpegDecoder("bgr", "a test").decode(encoded() + bytes(1000)),
        JpegDecoder("bgr", "a test").decode(encoded()),
    )


@pytest.mark.parametrize(
    "rest", [b"\r\n", b"\xff" * 3, b"\r\n--boundary\r\n", b"\0" * 9 + b"ftypmp42", encoded()[:-2]]
)
def test_what_stands_behind_it_is_no_damage(rest: bytes) -> None:
    decoder = JpegDecoder("bgr", "a test")
    for options in ((), (cv2.IMWRITE_JPEG_PROGRESSIVE, 1), (cv2.IMWRITE_JPEG_RST_INTERVAL, 2)):
        content = encoded(SLOPES, *options)
        assert up_to_its_end(content + rest) == content
        np.testing.assert_array_equal(decoder.decode(content + rest), decoder.decode(content))


@pytest.mark.parametrize("rest", [b"", b"\0\0", b"\r\n"])
def test_the_end_of_the_small_picture_in_its_notes_is_not_its_end(rest: bytes) -> None:
    small = b"Exif\0\0" + encoded(SLOPES[::4, ::4])
    whole = encoded()
    content = whole[:2] + b"\xff\xe1" + (len(small) + 2).to_bytes(2, "big") + small + whole[2:]
    assert up_to_its_end(content + rest) == content
    for length in (20 + len(small), len(content) // 2, len(content) - 2, len(content) - 1):
        with pytest.raises(JpegError, match=r"is cut short \(\d+ bytes without an end\)"):
            JpegDecoder("bgr", "a test").decode(content[:length] + rest)


def test_what_is_not_whole_is_refused_and_the_next_one_is_read() -> None:
    content = encoded()
    third = len(content) // 3
    decoder = JpegDecoder("bgr", "a test")
    wanted = decoder.decode(content)
    for broken, reason in (
        (content[: 2 * third], r"is cut short \(\d+ bytes without an end\)"),
        (content[:third] + content[2 * third :], r"of \d+ bytes cannot be decoded"),
        (content[:2] + content[-2:], r"of 4 bytes"),
        (b"", r"is cut short"),
        (b"no picture" + content[-2:], r"of 12 bytes"),
    ):
        with pytest.raises(JpegError, match=reason):
            decoder.decode(broken)
        np.testing.assert_array_equal(decoder.decode(content), wanted)


@pytest.mark.parametrize("filled", [True, False])
def test_a_hole_of_a_kilobyte_is_seen(filled: bool) -> None:
    """Of smaller ones some pass; see `JpegDecoder`."""
    rng = np.random.default_rng(3)
    rough = rng.integers(0, 256, (12, 16, 3), np.uint8)
    scene = cv2.resize(rough, (640, 360), interpolation=cv2.INTER_CUBIC) // 2
    content = encoded(scene + rng.integers(0, 24, scene.shape, np.uint8), cv2.IMWRITE_JPEG_QUALITY, 90)
    places = rng.integers(content.index(b"\xff\xda") + 14, len(content) - 1026, 40)
    passed = sum(passes(content[:at] + bytes(1024 * filled) + content[at + 1024 :]) for at in places)
    assert passed <= (10 if filled else 0)
