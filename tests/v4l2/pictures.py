"""Pictures of the emulated camera: formats, times, losses, damage.

test_camera.py in tests/video runs this in a process of its own: no other test may see a camera that is none.
"""

from __future__ import annotations

import re
import time
from itertools import islice, pairwise
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from emulated_camera import (
    PATH,
    RAW,
    SIZE,
    camera,  # noqa: F401 - used by all
    configure,
    emulator,
    first,
    jpeg,
    luma,
    picture,
    uri,
)
from source_contract import SourceContract

from pixelrt.manifest import ColorOrder
from pixelrt.video.events import Event
from pixelrt.video.sources import open_source, seldom, stamps


class TestContract(SourceContract):
    live = True
    same_again = False

    @pytest.fixture
    def uri(self) -> str:
        return f"v4l2://{PATH}?format=mjpeg&fps=100"

    def test_what_it_reads_is_named(self, uri: str) -> None:
        with self.open(uri) as source:
            assert source.paths == (PATH,)


@pytest.mark.parametrize("color", ["rgb", "bgr"])
@pytest.mark.parametrize("pixels", [*RAW, "mjpeg"])
def test_pictures_of_every_format(pixels: str, color: ColorOrder) -> None:
    with open_source(uri(format=pixels, fps=100, size="96x128"), color=color) as source:
        assert source.live
        assert source.size == SIZE
        assert source.fps == 100
        assert source.num_frames is None
        assert source.paths == (PATH,)
        frames = first(source, 5)
    assert [frame.index for frame in frames] == [0, 1, 2, 3, 4]
    for frame in frames:
        assert frame.image.shape == (*SIZE, 3)
        assert frame.image.dtype == np.uint8
        assert frame.image.flags.c_contiguous
        assert (frame.color, frame.source) == (color, "camera31")
        red, green, blue = frame.image[8, 8, :: 1 if color == "rgb" else -1].astype(int)
        assert red > 230
        assert max(green, blue) < 30
    greys = [int(frame.image[-1, -1, 1]) for frame in frames]
    first_grey = picture(0)[-1, -1, 1] if pixels in ("mjpeg", "rgb24", "bgr24") else luma(0)
    assert abs(greys[0] - first_grey) <= 3, "pictures come from the beginning on"
    assert all(earlier < later for earlier, later in pairwise(greys))


def test_opencv_sees_the_same_pictures() -> None:
    """Another program's reader, and so a second opinion on the emulator too."""
    capture = cv2.VideoCapture(PATH, cv2.CAP_V4L2)
    assert capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"YUYV"))
    pictures = [capture.read()[1] for _ in range(8)]
    capture.release()
    configure(misused=0)  # it asks for controls, of which this camera has none
    theirs = {int(image[-1, -1, 1]): image for image in pictures}
    with open_source(uri(format="yuyv"), color="bgr") as source:
        ours = {int(frame.image[-1, -1, 1]): frame.image for frame in first(source, 8)}
    both = theirs.keys() & ours.keys()
    assert len(both) >= 4
    for grey in both:
        np.testing.assert_array_equal(theirs[grey], ours[grey])


def test_a_camera_without_colours() -> None:
    with open_source(uri(format="grey")) as source:
        image = first(source, 1)[0].image
    assert (image[..., 0] == image[..., 1]).all()
    assert (image[..., 0] == image[..., 2]).all()
    assert image[-1, -1, 0] == 40


@pytest.mark.parametrize("pixels", RAW)
def test_rows_with_bytes_between_them(pixels: str) -> None:
    configure(padding=64)
    with open_source(uri(format=pixels)) as source:
        image = first(source, 1)[0].image
    corner, rest = image[:23, :31].astype(int), image[30:, 40:].astype(int)
    assert np.ptp(rest) == 0
    assert np.abs(corner - [255, 0, 0]).max() < 30


def test_frames_do_not_share_memory() -> None:
    for pixels in (*RAW, "mjpeg"):
        with open_source(uri(format=pixels)) as source:
            frames = first(source, 9)
        greys = [int(frame.image[-1, -1, 1]) for frame in frames]
        assert len(set(greys)) == 9, pixels
        assert not any(np.shares_memory(one.image, two.image) for one, two in pairwise(frames))


def test_times_are_the_kernel_s() -> None:
    before_s = time.monotonic()
    with open_source(uri(fps=50, format="yuyv")) as source:
        frames = []
        for frame in islice(source, 8):
            assert before_s <= frame.captured_s <= time.monotonic()
            frames.append(frame)
            time.sleep(0.002)
    assert frames[0].time_s == 0
    steps = np.diff([frame.captured_s for frame in frames])
    assert (steps > 0).all()
    assert [frame.time_s for frame in frames] == pytest.approx(
        [frame.captured_s - frames[0].captured_s for frame in frames]
    )
    assert {frame.clock_s for frame in frames} == {None}


def test_a_slow_reader_sees_when_pictures_were_taken() -> None:
    """Not when they were read: the driver's buffers make them old."""
    with open_source(uri(fps=100)) as source:
        frames = iter(source)
        next(frames)
        time.sleep(0.2)
        late = next(frames)
        assert time.monotonic() - late.captured_s > 0.15
        assert next(frames).captured_s - late.captured_s < 0.15
        source.close()


@pytest.mark.parametrize("clock", [0, 2], ids=["monotonic", "time of day"])
def test_a_reader_that_was_away_for_long_sees_when_pictures_were_taken(
    clock: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Longer than pictures may wait otherwise: they are old, and their clock is no other one."""
    monkeypatch.setattr(stamps, "_OLDEST_S", 0.1)
    configure(clock=clock)
    with open_source(uri(fps=100)) as source:
        frames = iter(source)
        next(frames), next(frames)
        time.sleep(0.4)
        late = next(frames)
        if clock:
            assert late.clock_s is not None
            assert time.time() - late.clock_s > 0.3
        else:
            assert time.monotonic() - late.captured_s > 0.3
        source.close()


def test_a_picture_that_is_looked_at_takes_no_buffer_from_the_driver() -> None:
    with open_source(uri(fps=100)) as source:
        frames = iter(source)
        next(frames), next(frames)
        time.sleep(0.3)
        back_s = time.monotonic()
        waited = [frame for frame in islice(frames, 6) if back_s - frame.captured_s > 0.1]
        source.close()
    assert len(waited) == 4, "as many as there are buffers"


def test_a_driver_without_times() -> None:
    configure(clock=1)
    with open_source(uri()) as source:
        frames = first(source, 3)
    assert all(0 <= time.monotonic() - frame.captured_s < 10 for frame in frames)
    assert [frame.clock_s for frame in frames] == [None] * 3


def test_a_driver_that_has_the_time_of_day() -> None:
    """`clock=CLOCK_REALTIME` of uvcvideo."""
    configure(clock=2)
    with open_source(uri()) as source:
        frames = first(source, 3)
    for frame in frames:
        assert frame.clock_s is not None
        assert 0 <= time.time() - frame.clock_s < 10
        assert 0 <= time.monotonic() - frame.captured_s < 10


def test_what_the_driver_loses_is_counted() -> None:
    configure(gap_at=3)
    with open_source(uri(format="yuyv")) as source:
        frames = first(source, 6)
        assert source.losses.get("driver", 0) >= 2
    assert [frame.index for frame in frames] == list(range(6)), "lost frames have no index"


def test_what_a_slow_reader_loses_is_counted() -> None:
    with open_source(uri(fps=100)) as source:
        frames = iter(source)
        next(frames)
        next(frames)
        time.sleep(0.3)
        for _ in range(8):
            next(frames)
        assert source.losses["driver"] >= 5
        source.close()


@pytest.mark.parametrize(
    ("pixels", "fault", "reason"),
    [
        ("yuyv", "damaged_at", "the driver says so"),
        ("mjpeg", "damaged_at", "the driver says so"),
        ("yuyv", "cut_at", "12288 bytes came, a picture has 24576"),
        ("mjpeg", "cut_at", "is cut short"),
        ("mjpeg", "broken_at", "cannot be decoded"),
    ],
)
def test_damaged_pictures_are_left_out(pixels: str, fault: str, reason: str) -> None:
    configure(**{fault: 2})
    events: list[Event] = []
    with open_source(uri(format=pixels)) as source:
        source.on_event = events.append
        frames = first(source, 5)
        assert source.losses["damaged"] == 1
    assert [(event.kind, event.source) for event in events] == [
        ("connected", "camera31"),
        ("damaged", "camera31"),
    ]
    assert reason in events[1].detail
    greys = [int(frame.image[-1, -1, 1]) for frame in frames]
    missing = luma(2) if pixels == "yuyv" else 50
    assert not any(abs(grey - missing) < 3 for grey in greys)


def test_a_jpeg_with_a_hole_is_no_picture() -> None:
    """A packet that the USB lost: decoders make half a picture of it, grey or shifted, and say nothing."""
    emulator.emulator_reset(PATH.encode())
    noise = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
    whole, size = jpeg(cv2.resize(noise, (128, 96)))
    holed = whole[: size // 2] + whole[size // 2 + 300 :]
    assert cv2.imdecode(np.frombuffer(holed, np.uint8), cv2.IMREAD_COLOR) is not None
    for content in (whole, holed):
        emulator.emulator_picture(content, len(content))
    with open_source(uri(format="mjpeg")) as source:
        frames = first(source, 4)
        assert source.losses["damaged"] >= 3
    assert all((frame.image == frames[0].image).all() for frame in frames)


def test_a_jpeg_with_zeros_behind_it() -> None:
    configure(zeros=700)
    with open_source(uri(format="mjpeg")) as source:
        first(source, 4)
        assert "damaged" not in source.losses


@pytest.mark.parametrize("rest", [b"\r\n", b"\xff\xff\xff", b"\xff\xd9\x00 7 bytes"])
def test_a_jpeg_with_something_else_behind_it(rest: bytes) -> None:
    emulator.emulator_reset(PATH.encode())
    content, size = jpeg(picture(3))
    emulator.emulator_picture(content + rest, size + len(rest))
    with open_source(uri(format="mjpeg")) as source:
        assert abs(int(first(source, 4)[3].image[-1, -1, 1]) - 55) <= 3
        assert "damaged" not in source.losses


def test_a_jpeg_that_is_filled_up_to_whole_blocks() -> None:
    """As 1080 rows are 1088 in the JPEG of some encoders: what is more than the driver said is no picture."""
    emulator.emulator_reset(PATH.encode())
    configure(stepwise=1)
    filled = picture(0)
    filled[90:], filled[:, 120:] = (255, 0, 255), (255, 0, 255)
    emulator.emulator_picture(*jpeg(filled))
    with open_source(uri(format="mjpeg", size="90x120")) as source:
        assert source.size == (90, 120)
        frame = first(source, 3)[2]
        assert source.losses == {}
    assert frame.image.flags.c_contiguous
    np.testing.assert_allclose(frame.image[:80, :112].astype(int), picture(0)[:80, :112], atol=40)
    np.testing.assert_allclose(frame.image[30:80, 40:112].astype(int), picture(0)[30:80, 40:112], atol=3)


def test_many_damaged_pictures_are_told_of_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    emulator.emulator_reset(PATH.encode())
    for number in range(16):
        size = (48, 64) if number % 8 else SIZE
        emulator.emulator_picture(*jpeg(np.full((*size, 3), 9, np.uint8)))
    events: list[Event] = []
    for every_s in (5.0, 0.1):
        monkeypatch.setattr(seldom, "_EVERY_S", every_s)
        with open_source(uri(format="mjpeg", fps=100)) as source:
            source.on_event = events.append
            first(source, 5)
            assert source.losses["damaged"] >= 20
        damages = [event.detail for event in events if event.kind == "damaged"]
        if every_s == 5.0:
            assert damages == ["picture 1 was left out: a JPEG is 48x64, expected 96x128"]
    assert len(damages) > 2
    assert re.match(r"picture \d+ and \d+ before it were left out: a JPEG is 48x64", damages[2])


@pytest.mark.parametrize("other", [(48, 64), (112, 128), (104, 128)])
def test_a_jpeg_of_another_size_is_no_picture_of_this_camera(other: tuple[int, int]) -> None:
    emulator.emulator_reset(PATH.encode())
    for number in range(16):
        size = (96, 128) if number % 2 else other
        emulator.emulator_picture(*jpeg(np.full((*size, 3), 9, np.uint8)))
    events: list[Event] = []
    with open_source(uri(format="mjpeg")) as source:
        source.on_event = events.append
        frames = first(source, 3)
    assert {frame.size for frame in frames} == {(96, 128)}
    said = f"a JPEG is {other[0]}x{other[1]}, expected 96x128"
    assert any(said in event.detail for event in events)


def test_memory_stays_as_it_is() -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1])

    for _ in range(3):
        with open_source(uri(format="mjpeg")) as source:
            first(source, 20)
    before = resident()
    for _ in range(5):
        with open_source(uri(format="mjpeg")) as source:
            first(source, 20)
    assert resident() - before < 2000, "pages; each opening maps 1024"
    assert av.__version__
