"""Pipelines of GStreamer: played in a process that has PyGObject; here the texts, and machines without it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import needs
import numpy as np
import pytest

from pixelrt.errors import MissingDependency, SourceError
from pixelrt.manifest import ColorOrder
from pixelrt.video.sources import open_source
from pixelrt.video.sources.gstreamer import gobject, player, texts
from pixelrt.video.sources.gstreamer.texts import CsiOptions, csi_pipeline, explained, with_sink
from pixelrt.video.sources.hiding import pipeline_without_secrets

HERE = Path(__file__).parents[1]


def test_pipelines_that_play() -> None:
    environment = needs.gstreamer()
    # PyGObject's own importer is of an older Python
    options = [
        "-q",
        "-p",
        "no:xdist",
        "-W",
        "ignore::ImportWarning",
        "-p",
        "no:cacheprovider",
        "--noconftest",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(HERE / "gstreamer" / "played.py")],
        env=environment,
        cwd=HERE.parent,
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout.rsplit(" passed", 1)[0].split()[-1]) >= 80, done.stdout


def test_a_pipeline_before_the_network() -> None:
    """GStreamer brings libraries that other libraries, loaded after it, stumble over."""
    environment = needs.gstreamer()
    program = (
        "import pixelrt\n"
        "from pixelrt.self_test.tiny import FOLDER\n"
        "from pixelrt.video.sources import open_source\n"
        "source = open_source('gst://videotestsrc num-buffers=3')\n"
        "segmenter = pixelrt.load(FOLDER, device='cpu')\n"
        "print(len(list(segmenter.stream(source))), segmenter.session.info.backend)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "3 openvino\n"), done.stderr


# Texts


def test_the_pipeline_of_a_jetson() -> None:
    assert csi_pipeline(CsiOptions()) == (
        "nvarguscamerasrc sensor-id=0 ! video/x-raw(memory:NVMM),format=NV12 ! "
        "nvvidconv flip-method=0 ! video/x-raw,format=BGRx"
    )
    asked = CsiOptions(number=2, size=(1080, 1920), fps=59.94, mode=3, flip="clockwise")
    assert csi_pipeline(asked) == (
        "nvarguscamerasrc sensor-id=2 sensor-mode=3 ! "
        "video/x-raw(memory:NVMM),format=NV12,width=1920,height=1080,framerate=2997/50 ! "
        "nvvidconv flip-method=3 ! video/x-raw,format=BGRx"
    )
    assert "framerate=30/1 " in csi_pipeline(CsiOptions(fps=30))


def test_what_hands_pictures_over() -> None:
    assert with_sink("videotestsrc ! ", "bgr") == (
        "videotestsrc ! videoconvert ! video/x-raw,format=BGR ! appsink name=pixelrt sync=false"
    )
    assert with_sink("a ! appsink name=x", "rgb") == "a ! appsink name=x"
    assert with_sink("a name=appsinks", "rgb").endswith("! appsink name=pixelrt sync=false")


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("csi://front", "names no camera, expected its number, such as csi://0"),
        ("csi://", "names no camera"),
        ("csi://0?size=1080p", "'1080p' is no size; give height x width"),
        ("csi://0?flip=rotate180", r"expected one of none, .* \(did you mean 'rotate-180'\?\)"),
        ("csi://0?mode=-1", "expected a whole number, 0 to 99"),
        ("csi://0?fps=x", "expected frames a second, 0.01 to 1000"),
        (
            "csi://0?fliip=none",
            r"no option 'fliip' \(did you mean 'flip'\?\); known: size, fps, mode, flip, stall",
        ),
    ],
)
def test_addresses_that_make_no_sense(uri: str, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        open_source(uri)


def test_errors_say_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert "-ugly or gstreamer1.0-libav" in explained('no element "x264enc"')
    assert "this machine is no Jetson" in explained('no element "nvvidconv"')
    jetson = tmp_path / "nv_tegra_release"
    jetson.touch()
    monkeypatch.setattr(texts, "_TEGRA", jetson)
    assert "nvidia-l4t-gstreamer" in explained('no element "nvarguscamerasrc"')
    assert explained("something else") == "something else"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("rtspsrc location=rtsp://u:p@host/a", "rtspsrc location=rtsp://***@host/a"),
        ("rtspsrc location=rtsp://host/a@b", "rtspsrc location=rtsp://host/a@b"),
        ('rtspsrc user-id="a b" user-pw=secret ! x', "rtspsrc user-id=*** user-pw=*** ! x"),
        ("srtsrc passphrase=secret1234", "srtsrc passphrase=***"),
    ],
)
def test_passwords_are_hidden(text: str, wanted: str) -> None:
    assert pipeline_without_secrets(text) == wanted


class Sink:
    """What an appsink shows of the pictures that reach it."""

    def __init__(self) -> None:
        self.arrive: Callable[[Any, Any], Any] = lambda pad, probe: None

    def get_static_pad(self, name: str) -> Sink:
        return self

    def add_probe(self, kind: object, told: Callable[[Any, Any], Any]) -> None:
        self.arrive = told

    def get(self, *times: int) -> None:
        for time in times:
            self.arrive(self, SimpleNamespace(get_buffer=lambda pts=time: SimpleNamespace(pts=pts)))


@pytest.mark.parametrize("timed", [True, False])
def test_what_an_appsink_drops_is_counted(timed: bool) -> None:
    """Of pictures with times and without; between two that are taken so many come."""
    sink = Sink()
    gst = SimpleNamespace(PadProbeReturn=SimpleNamespace(OK=0), PadProbeType=SimpleNamespace(BUFFER=0))
    arrivals = gobject._Arrivals(sink, gst)
    lost, last = [], 0
    for new in (3, 1, 5, 1, 400, 2):
        times = range(last + 1, last + new + 1) if timed else [2**64 - 1] * new
        sink.get(*times)
        last += new
        lost.append(arrivals.lost_up_to(times[-1]))
    assert lost == [0, 0, 4, 4, 403, 404]


# Machines without PyGObject


class Capture:
    """OpenCV's VideoCapture with GStreamer, as far as it is used; the wheels have none."""

    opened: ClassVar[list[str]] = []
    pictures = 3
    works = True

    def __init__(self, text: str, backend: int) -> None:
        assert backend == 1800, "CAP_GSTREAMER"
        self.opened.append(text)
        self._left = self.pictures
        self.released = False

    def isOpened(self) -> bool:  # noqa: N802 - OpenCV's name
        return self.works

    def get(self, what: int) -> float:
        return 30.0

    def read(self) -> tuple[bool, Any]:
        self._left -= 1
        if self._left < 0:
            return False, None
        return True, np.full((48, 64, 3), (10, 20, 200), np.uint8)

    def release(self) -> None:
        self.released = True


@pytest.fixture
def opencv(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Capture]]:
    import cv2

    monkeypatch.setattr(player, "_no_gobject", lambda: "it cannot be imported")
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: "    GStreamer:        YES (1.20.3)\n")
    monkeypatch.setattr(cv2, "VideoCapture", Capture)
    Capture.opened.clear()
    yield Capture
    Capture.works, Capture.pictures = True, 3


@pytest.mark.parametrize("color", ["rgb", "bgr"])
def test_through_opencv(opencv: type[Capture], color: ColorOrder) -> None:
    """Against a stand-in: no OpenCV with GStreamer was there to try."""
    opencv.pictures = 5
    source = open_source("csi://0?size=48x64&fps=30&reconnect=no", color=color)
    assert opencv.opened[0].endswith(
        "videoconvert ! video/x-raw,format=BGR ! appsink name=pixelrt sync=false max-buffers=1 drop=true"
    )
    assert (source.live, source.size, source.fps, source.name) == (True, (48, 64), 30.0, "csi0")
    frames = []
    with source, pytest.raises(SourceError, match="has ended or failed; OpenCV does not say which"):
        frames.extend(source)
    assert len(frames) == 4, "the first, which tells the size, is old when the iteration begins"
    assert tuple(frames[0].image[0, 0]) == ((200, 20, 10) if color == "rgb" else (10, 20, 200))
    assert {frame.color for frame in frames} == {color}


def test_what_opencv_plays_is_not_played_again(opencv: type[Capture]) -> None:
    """It does not tell an end from a failure, whether the pipeline was waited for or not."""
    for wait in (False, True):
        opencv.opened.clear()
        with (
            open_source("gst://a ! b", wait=wait) as source,
            pytest.raises(SourceError, match="has ended or failed; OpenCV does not say which"),
        ):
            list(islice(source, 20))
        assert len(opencv.opened) == 1


@pytest.mark.usefixtures("opencv")
def test_doctor_says_through_what() -> None:
    assert player.describe_gstreamer() == (
        "through OpenCV, which says less; PyGObject: it cannot be imported"
    )


def test_what_opencv_cannot_open(opencv: type[Capture]) -> None:
    opencv.works = False
    with pytest.raises(SourceError, match=r"OpenCV cannot open the pipeline 'a ! b'; .*GST_DEBUG=3"):
        open_source("gst://a ! b")


def test_without_gstreamer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(player, "_no_gobject", lambda: "it cannot be imported: No module named 'gi'")
    with pytest.raises(MissingDependency) as caught:
        open_source("csi://0")
    said = str(caught.value)
    assert "No module named 'gi'" in said
    assert "OpenCV (it was built without" in said
    assert "sudo apt install python3-gi" in said
    assert "--system-site-packages" in said
    assert player.describe_gstreamer().startswith("not usable for csi:// and gst://; PyGObject: it cannot")
