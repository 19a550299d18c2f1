"""What is asked of the emulated camera, and what it cannot do.

test_camera.py in tests/video runs this in a process of its own: no other test may see a camera that is none.
"""

from __future__ import annotations

import errno
import json
from pathlib import Path

import numpy as np
import pytest
from emulated_camera import (
    PATH,
    SIZE,
    camera,  # noqa: F401 - used by all
    configure,
    emulator,
    first,
    jpeg,
    luma,
    only,
    uri,
)

from pixelrt.cli import main
from pixelrt.errors import SourceError
from pixelrt.video.sources import open_source
from pixelrt.video.sources.v4l2 import finding
from pixelrt.video.sources.v4l2.device import survey


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
