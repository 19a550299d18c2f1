"""Cameras over the emulated driver, which must be loaded before the C library.

test_camera.py in tests/video runs this in a process of its own: no other test may see a camera that is none.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from source_contract import SourceContract

from pixelrt.cli import main
from pixelrt.errors import SourceError
from pixelrt.manifest import ColorOrder
from pixelrt.video.events import Event
from pixelrt.video.frame import Frame
from pixelrt.video.sources import Source, open_source
from pixelrt.video.sources.v4l2 import finding
from pixelrt.video.sources.v4l2.device import survey

PATH = "/dev/video31"
SIZE = (96, 128)
WAIT_S = 30.0
RAW = ("bgr24", "rgb24", "yuyv", "uyvy", "nv12", "i420")

emulator = ctypes.CDLL(None)
emulator.emulator_get.argtypes = [ctypes.c_char_p]
emulator.emulator_get.restype = ctypes.c_long
emulator.emulator_set.argtypes = [ctypes.c_char_p, ctypes.c_long]
emulator.emulator_picture.argtypes = [ctypes.c_char_p, ctypes.c_size_t]


def configure(**settings: int) -> None:
    for name, value in settings.items():
        emulator.emulator_set(name.replace("_", " ").encode(), value)


def count(name: str) -> int:
    return int(emulator.emulator_get(name.encode()))


def only(*codes: str) -> None:
    emulator.emulator_only(",".join(codes).encode())


def descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


@pytest.fixture(autouse=True)
def camera() -> Iterator[None]:
    """A camera in its box; no test may leave it open, nor use it wrongly."""
    emulator.emulator_reset(PATH.encode())
    for number in range(16):
        emulator.emulator_picture(*jpeg(picture(number)))
    before, threads = descriptors(), threading.active_count()
    yield
    assert count("live") == 0, "the camera is still open"
    assert count("misused") == 0
    assert len(descriptors()) <= len(before) + 1, "the emulator's memory is the one"
    assert threading.active_count() == threads


def picture(number: int) -> NDArray[np.uint8]:
    """As the emulator paints them: a red corner, and a grey that tells the number."""
    image = np.full((*SIZE, 3), 40 + 5 * (number % 20), np.uint8)
    image[: SIZE[0] // 4, : SIZE[1] // 4] = (255, 0, 0)
    return image


def jpeg(image: NDArray[np.uint8]) -> tuple[bytes, int]:
    _, content = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
    return content.tobytes(), content.size


def luma(number: int) -> float:
    """What a camera's grey of the emulator is in RGB: BT.601 has 16..235."""
    return (40 + 5 * (number % 20) - 16) * 255 / 219


def first(source: Source, number: int) -> list[Frame]:
    return list(islice(source, number))


def uri(**options: object) -> str:
    return f"v4l2://{PATH}?" + "&".join(f"{key}={value}" for key, value in options.items())


def in_thread(work: Callable[[], Any]) -> Future[Any]:
    executor = ThreadPoolExecutor(1)
    future = executor.submit(work)
    executor.shutdown(wait=False)
    return future


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


def test_a_jpeg_of_another_size_is_no_picture_of_this_camera() -> None:
    emulator.emulator_reset(PATH.encode())
    for number in range(16):
        size = (96, 128) if number % 2 else (48, 64)
        emulator.emulator_picture(*jpeg(np.full((*size, 3), 9, np.uint8)))
    events: list[Event] = []
    with open_source(uri(format="mjpeg")) as source:
        source.on_event = events.append
        frames = first(source, 3)
    assert {frame.size for frame in frames} == {(96, 128)}
    assert any("holds [(48, 64)], expected one picture 96x128" in event.detail for event in events)


# The end


def test_an_interrupt_ends_a_wait() -> None:
    configure(stall_at=2)
    with open_source(uri(stall=WAIT_S * 2)) as source:
        read = in_thread(lambda: list(source))
        time.sleep(0.1)
        began_s = time.monotonic()
        source.interrupt()
        assert len(read.result(timeout=WAIT_S)) == 2
        assert time.monotonic() - began_s < 5
    source.interrupt()


def test_closing_early_and_twice() -> None:
    source = open_source(uri())
    frames = iter(source)
    next(frames)
    source.close()
    source.close()
    source.interrupt()
    assert list(frames) == []
    with open_source(uri()) as again:
        assert len(first(again, 2)) == 2


def test_closing_without_a_look() -> None:
    open_source(uri()).close()


def test_a_camera_that_falls_silent() -> None:
    configure(stall_at=3)
    frames: list[Frame] = []
    with (
        open_source(uri(stall=0.3, reconnect="no")) as source,
        pytest.raises(SourceError, match=rf"{PATH} gave no picture for 0\.3 s, after 3 pictures"),
    ):
        frames.extend(source)
    assert len(frames) == 3


def test_a_camera_that_is_unplugged() -> None:
    configure(unplug_at=4)
    frames: list[Frame] = []
    with (
        open_source(uri(reconnect="no")) as source,
        pytest.raises(SourceError, match=rf"{PATH} is gone: it was unplugged.* \(after \d pictures\)"),
    ):
        frames.extend(source)
    assert len(frames) <= 4


def test_a_camera_that_fails() -> None:
    configure(dequeue_errno=errno.EIO)
    with pytest.raises(SourceError, match=r"failed \(input/output error\): look at its cable"):
        open_source(uri())


def test_a_camera_that_comes_back() -> None:
    configure(unplug_at=4, away=2)
    events: list[Event] = []
    with open_source(uri(format="yuyv")) as source:
        source.on_event = events.append
        frames = first(source, 10)
    assert count("opened") == 2
    assert [frame.index for frame in frames] == list(range(10))
    times = [frame.captured_s for frame in frames]
    assert times == sorted(times)
    assert all(earlier.time_s < later.time_s for earlier, later in pairwise(frames))
    assert {frame.source for frame in frames} == {"camera31"}
    assert [event.kind for event in events] == [
        "connected",
        "lost",
        "reconnecting",
        "reconnecting",
        "reconnecting",
        "connected",
    ]
    assert "it was unplugged" in events[1].detail
    assert "does not exist" in events[3].detail


def test_a_silent_camera_is_opened_again() -> None:
    configure(stall_at=4)
    events: list[Event] = []
    with open_source(uri(stall=0.2)) as source:
        source.on_event = events.append
        assert len(first(source, 10)) == 10
    assert [event.kind for event in events].count("stalled") == 2
    assert count("opened") == 3


def test_an_interrupt_ends_the_wait_for_a_camera() -> None:
    configure(unplug_at=2, away=1_000_000)
    with open_source(uri()) as source:
        read = in_thread(lambda: list(source))
        time.sleep(0.3)
        source.interrupt()
        assert len(read.result(timeout=WAIT_S)) <= 2


def test_a_camera_is_waited_for() -> None:
    configure(busy=1)
    opened = in_thread(lambda: open_source(uri(wait="yes")))
    time.sleep(0.2)
    assert not opened.done()
    configure(busy=0)
    with opened.result(timeout=WAIT_S) as source:
        assert len(first(source, 2)) == 2
    with pytest.raises(SourceError, match="cannot give jpeg"):
        open_source(uri(wait="yes", format="jpeg"))


def test_what_waited_while_the_reader_was_away_is_old() -> None:
    """The first picture is taken to see that the camera works; the reader may need long to begin."""
    with open_source(uri(fps=100, format="yuyv")) as source:
        time.sleep(0.5)
        began_s = time.monotonic()
        frames = first(source, 3)
        assert source.losses["early"] >= 20
        assert source.losses.get("driver", 0) <= 3
    assert all(frame.captured_s >= began_s - 0.02 for frame in frames)
    assert [frame.index for frame in frames] == [0, 1, 2]


# What is asked


def test_what_is_taken_where_nobody_asks() -> None:
    """The size that the camera is set to, and the rate nearest to 30 in the format that is read fastest."""
    with open_source(PATH) as source:
        assert source.size == SIZE
        assert source.fps == 50
        assert first(source, 1)[0].image[-1, -1, 1] == pytest.approx(luma(0), abs=2)


def test_a_rate_decides_the_format() -> None:
    with open_source(uri(size="192x256", fps=10)) as source:
        assert (source.size, source.fps) == ((192, 256), 10)
        assert len(first(source, 1)) == 1
    emulator.emulator_reset(PATH.encode())
    emulator.emulator_picture(*jpeg(np.full((192, 256, 3), 77, np.uint8)))
    with open_source(uri(size="192x256")) as source:
        assert source.fps == 25, "MJPEG is nearer to 30 than the 10 of YUYV"
        assert abs(int(first(source, 1)[0].image.max()) - 77) <= 1


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        ({"size": "720x1280"}, "720x1280"),
        ({"fps": 24}, "24 fps"),
        ({"size": "192x256", "fps": 25, "format": "yuyv"}, "yuyv 192x256 25 fps"),
        ({"format": "jpeg"}, "jpeg"),
    ],
)
def test_what_the_camera_cannot_do_is_said(options: dict[str, object], asked: str) -> None:
    can = (
        r"it can give mjpeg 96x128 at 50, 100 fps, 192x256 at 25 fps; "
        r"yuyv 96x128 at 50, 100 fps, 192x256 at 10 fps; .*"
        r"BA81 \(which PixelRT does not read\) 96x128 at 100 fps"
    )
    with pytest.raises(SourceError, match=f"{PATH} cannot give {asked}; {can}"):
        open_source(uri(**options))


def test_a_camera_of_a_sensor_s_own_pixels() -> None:
    only("BA81")
    with pytest.raises(
        SourceError, match=r"cannot give any format; it can give BA81 .*; on a Jetson, csi://0"
    ):
        open_source(PATH)


def test_a_camera_that_sets_itself_to_something_else() -> None:
    configure(other_size=1)
    with pytest.raises(
        SourceError, match=r"asked for YUYV 96x128 and set itself to YUYV 48x128; it can give"
    ):
        open_source(uri(format="yuyv"))
    emulator.emulator_reset(PATH.encode())
    configure(other_rate=15)
    with pytest.raises(SourceError, match=r"asked for 100 fps and set itself to 15; it can give"):
        open_source(uri(fps=100))
    with open_source(uri(format="yuyv")) as source:
        assert source.fps == 15, "nobody asked for a rate"


def test_a_camera_that_does_not_say_what_it_can() -> None:
    configure(no_sizes=1, no_rate=1)
    with open_source(uri(size="96x128"), fps=12) as source:
        assert source.fps == 12
        assert len(first(source, 2)) == 2
    with pytest.raises(SourceError, match="asked for 30 fps and does not say at which rate"):
        open_source(uri(fps=30))
    with pytest.raises(SourceError, match=r"asked for BGR3 720x1280 and set itself to BGR3 96x128"):
        open_source(uri(size="720x1280"))


def test_a_camera_of_any_size() -> None:
    configure(stepwise=1)
    with open_source(uri(size="64x80", fps=60, format="yuyv")) as source:
        assert (source.size, source.fps) == ((64, 80), 60)
        assert first(source, 1)[0].image.shape == (64, 80, 3)
    with pytest.raises(SourceError, match=r"cannot give 65x80; .*yuyv 32\.\.192x32\.\.256 at 5\.\.120 fps"):
        open_source(uri(size="65x80"))


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("size=720", "'720' is no size; give height x width"),
        ("fps=fast", "expected frames a second, 0.01 to 1000"),
        ("format=mjpg", r"expected one of bgr24, .* \(did you mean 'mjpeg'\?\)"),
        ("sise=96x128", r"no option 'sise' \(did you mean 'size'\?\); known: size, fps, format, stall"),
        ("size=96x128&size=96x128", "size is there twice"),
    ],
)
def test_options_that_make_no_sense(query: str, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        open_source(f"{PATH}?{query}")


# What cannot be opened


def test_a_number_is_a_camera() -> None:
    for text in ("31", PATH, f"v4l2://{PATH}", "v4l2://31", "31?format=grey"):
        with open_source(text) as source:
            assert source.name == "camera31"


def test_a_camera_by_a_name_of_its_own() -> None:
    link = "/dev/v4l/by-id/usb-Maker_Camera-video-index0"
    emulator.emulator_reset(link.encode())
    with open_source(f"{link}?format=yuyv") as source:
        assert source.name == "usb-Maker_Camera-video-index0"
        assert first(source, 1)[0].name == "usb-Maker_Camera-video-index0-000000"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"busy": 1}, f"{PATH} is in use, perhaps by this very program; one program at a time"),
        ({"open_errno": errno.ENODEV}, f"{PATH} is gone"),
        ({"open_errno": errno.ENXIO}, "no camera answers behind it"),
        ({"open_errno": errno.EMFILE}, "cannot be used: Too many open files"),
        ({"capabilities": 0x04800000}, r"\(Emulated Camera\) gives no pictures; of several device files"),
        (
            {"capabilities": 0x04001000},
            r"several planes, .* gst://v4l2src device=/dev/video31 ! videoconvert",
        ),
        ({"interlaced": 1}, "gives half pictures, interlaced"),
        ({"granted": 1}, "has memory for 1 pictures, expected 2"),
    ],
)
def test_cameras_that_cannot_be_opened(settings: dict[str, int], message: str) -> None:
    configure(**settings)
    with pytest.raises(SourceError, match=message):
        open_source(uri(format="yuyv"))


def test_too_little_bandwidth() -> None:
    configure(on_errno=errno.ENOSPC)
    with pytest.raises(SourceError, match=r"USB's bandwidth: .*format=mjpeg"):
        open_source(uri())


@pytest.fixture(scope="session")
def libraries() -> None:
    """Loads all that `pixelrt doctor` looks at, and what that keeps open."""
    main(["doctor", "--json"])


@pytest.mark.usefixtures("libraries")
def test_doctor_lists_cameras(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("video0", "video1"):
        (tmp_path / name).touch()
    monkeypatch.setattr(finding, "DEV", tmp_path)
    emulator.emulator_reset(f"{tmp_path}/video0".encode())
    only("MJPG", "BA81")
    assert main(["doctor"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert f"Camera {tmp_path}/video0: mjpeg 96x128 at 50, 100 fps, 192x256 at 25 fps; BA81 (which" in shown
    assert f"Camera {tmp_path}/video1: {tmp_path}/video1 cannot be used: Inappropriate ioctl" in shown
    assert main(["doctor", "--json"]) == 0
    first_one = json.loads(capsys.readouterr().out)["cameras"][0]
    assert first_one["path"] == f"{tmp_path}/video0"
    assert first_one["can"].startswith("mjpeg 96x128")


def test_doctor_leaves_out_what_gives_no_pictures(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "video0").touch()
    monkeypatch.setattr(finding, "DEV", tmp_path)
    emulator.emulator_reset(f"{tmp_path}/video0".encode())
    configure(capabilities=0x04800000)
    assert survey() == []
    configure(capabilities=0, open_errno=errno.EBUSY)
    assert "is in use" in survey()[0][1]


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
