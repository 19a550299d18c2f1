"""Pipelines that really play, where PyGObject and GStreamer are.

test_gstreamer.py in tests/video runs this in a process of its own, with the machine's own packages.
"""

from __future__ import annotations

import gc
import os
import re
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice, pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from source_contract import SourceContract, held

from pixelrt.errors import SourceError, UnusableSource
from pixelrt.manifest import ColorOrder
from pixelrt.video.events import Event
from pixelrt.video.sources import Source, open_source, stamps
from pixelrt.video.sources.gstreamer.player import describe_gstreamer
from pixelrt.video.sources.gstreamer.source import PipelineSource, PlayOptions, keep_open
from pixelrt.video.sources.gstreamer.texts import CsiOptions, csi_pipeline
from pixelrt.video.sources.lazy import Lazy
from pixelrt.video.sources.reconnecting import Backoff, Persistence

SIZED = "video/x-raw,width=128,height=96,framerate=50/1"
LIVE = f"gst://videotestsrc is-live=true pattern=ball ! {SIZED}"
WAIT_S = 30.0


class TestFilm(SourceContract):
    """A pipeline that is not live gives every picture."""

    @pytest.fixture
    def uri(self) -> str:
        return f"gst://videotestsrc num-buffers=12 pattern=smpte ! {SIZED}"


class TestLive(SourceContract):
    live = True
    same_again = False

    @pytest.fixture
    def uri(self) -> str:
        return LIVE


class TestSinkOfTheUser(SourceContract):
    @pytest.fixture
    def uri(self) -> str:
        return f"gst://videotestsrc num-buffers=12 ! {SIZED} ! videoconvert ! appsink name=mine sync=false"


class TestCsi(SourceContract):
    """What is written for a Jetson, with elements of this machine in the place of JetPack's."""

    live = True
    same_again = False

    @pytest.fixture
    def uri(self) -> str:
        return "csi"

    def open(self, uri: str, color: ColorOrder = "rgb") -> Source:
        written = csi_pipeline(CsiOptions(number=1, size=self.size, fps=50, flip="rotate-180"))
        here = (
            written.replace("nvarguscamerasrc sensor-id=1", "videotestsrc is-live=true")
            .replace("(memory:NVMM)", "")
            .replace("nvvidconv flip-method=2", "videoflip method=rotate-180 ! videoconvert")
        )
        assert "nvvidconv" not in here
        return keep_open(here, PlayOptions(name="csi1", color=color, endless=True), Persistence())


def test_colours_and_which_way_is_up() -> None:
    for color in ("rgb", "bgr"):
        red = "foreground-color=0xffff0000 pattern=solid-color"
        with open_source(f"gst://videotestsrc {red} num-buffers=1 ! {SIZED}", color=color) as source:
            frame = next(iter(source))
        assert tuple(frame.image[40, 40, :: 1 if color == "rgb" else -1]) == (255, 0, 0)
    fixed = f"gst://videotestsrc {red} num-buffers=2 ! {SIZED},format=BGR ! appsink"
    with open_source(fixed, color="rgb") as source:
        frames = list(source)
    assert {frame.color for frame in frames} == {"bgr"}, "a sink of the user's may fix the order"
    assert tuple(frames[0].image[40, 40]) == (0, 0, 255)


@pytest.mark.parametrize("width", [121, 122, 123, 124])
def test_rows_of_any_length(width: int) -> None:
    pipeline = f"gst://videotestsrc pattern=checkers-8 num-buffers=1 ! video/x-raw,width={width},height=16"
    with open_source(pipeline) as source:
        image = next(iter(source)).image
    assert image.shape == (16, width, 3)
    np.testing.assert_array_equal(image[0], image[7])
    assert (image[0] != image[8]).any(axis=1).all()


def test_times_are_the_camera_s() -> None:
    before_s = time.monotonic()
    with open_source(LIVE) as source:
        frames = []
        for frame in islice(source, 10):
            assert before_s < frame.captured_s <= time.monotonic()
            frames.append(frame)
    steps = np.diff([frame.captured_s for frame in frames])
    assert np.abs(steps / 0.02 - np.round(steps / 0.02)).max() < 0.01, "by the clock of the pipeline, exactly"


def test_a_slow_reader_gets_the_newest_and_knows_what_it_lost() -> None:
    with open_source(LIVE) as source:
        frames = iter(source)
        next(frames)
        before = next(frames)
        time.sleep(0.5)
        late = next(frames)
        lost = source.losses["replaced"]
        assert [before.index, late.index] == [1, 2]
        assert time.monotonic() - late.captured_s < 0.3, "not the one that had waited longest"
        assert lost >= round((late.captured_s - before.captured_s) / 0.02) - 1 > 10


def test_a_reader_that_gets_ready_with_the_first_picture() -> None:
    with open_source(LIVE) as source:
        frames = iter(source)
        next(frames)
        time.sleep(0.5)
        late = next(frames)
        assert time.monotonic() - late.captured_s < 0.3
        assert source.losses["early"] > 10
        next(frames)
        assert source.losses.get("replaced", 0) < 10


def test_what_comes_before_the_iteration_is_no_loss() -> None:
    with PipelineSource(LIVE[6:], PlayOptions(name="gst")) as source:
        time.sleep(0.3)
        began_s = time.monotonic()
        frame = next(iter(source))
        assert frame.captured_s > began_s - 0.1
        assert source.losses == {}


def test_all_of_a_film_however_slow_the_reader() -> None:
    with open_source(f"gst://videotestsrc num-buffers=30 ! {SIZED}") as source:
        assert not source.live
        assert source.fps == 50
        frames = []
        for frame in source:
            frames.append(frame)
            time.sleep(0.005)
    assert [frame.time_s for frame in frames] == pytest.approx([index / 50 for index in range(30)])
    assert source.losses == {}


@pytest.mark.parametrize("kept_open", ["not", "from its first life on", "anew"])
def test_a_change_of_size(kept_open: str) -> None:
    events: list[Event] = []
    small = "videotestsrc num-buffers=2 ! video/x-raw,width=64,height=48,framerate=10/1"
    large = "videotestsrc num-buffers=2 ! video/x-raw,width=80,height=60,framerate=10/1"
    film, play = f"concat name=c {small} ! c. {large} ! c. c.", PlayOptions(name="gst")
    first = None if kept_open == "anew" else PipelineSource(film, play)
    opened = keep_open(film, play, Persistence(), first) if kept_open != "not" else first
    assert opened is not None
    with opened as source:
        source.on_event = events.append
        assert [frame.size for frame in source] == [(48, 64), (48, 64), (60, 80), (60, 80)]
    assert [(event.kind, event.detail) for event in events if event.kind not in ("connected", "ended")] == [
        ("resized", "frames are 60x80 now, they were 48x64")
    ]


def test_an_interrupt_ends_a_wait() -> None:
    """`valve` lets nothing through after the first pictures."""
    with (
        PipelineSource(
            f"{LIVE[6:]} ! identity eos-after=-1 ! valve name=v", PlayOptions(name="gst")
        ) as source,
        ThreadPoolExecutor(1) as other,
    ):
        frames = iter(source)
        next(frames)
        valve = source._player._pipeline.get_by_name("v")  # type: ignore[attr-defined]
        valve.set_property("drop", True)
        rest = other.submit(lambda: list(frames))
        time.sleep(0.3)
        began_s = time.monotonic()
        source.interrupt()
        rest.result(timeout=WAIT_S)
        assert time.monotonic() - began_s < 5


def test_a_camera_that_falls_silent() -> None:
    options = PlayOptions(name="front", stall_s=0.4)
    with PipelineSource(f"{LIVE[6:]} ! valve name=v", options) as source:
        frames = iter(source)
        next(frames)
        source._player._pipeline.get_by_name("v").set_property("drop", True)  # type: ignore[attr-defined]
        with pytest.raises(SourceError, match=r"front gave no picture for 0\.4 s, after \d of them"):
            list(frames)


def test_a_camera_that_fails_is_played_again() -> None:
    failing = f"{LIVE[6:]} ! identity error-after=5"
    events: list[Event] = []
    soon = Persistence(backoff=Backoff(first_s=0.01, most_s=0.01))
    with keep_open(failing, PlayOptions(name="csi0", endless=True), soon) as source:
        source.on_event = events.append
        frames = list(islice(source, 9))
    assert [frame.index for frame in frames] == list(range(9))
    assert all(one.captured_s < two.captured_s and one.time_s < two.time_s for one, two in pairwise(frames))
    kinds = [event.kind for event in events]
    assert kinds[:4] == ["connected", "lost", "reconnecting", "connected"]
    assert "Failed after iterations as requested" in events[1].detail


def test_an_interrupt_while_a_camera_starts() -> None:
    """Its pictures never come."""
    silent = f"{LIVE[6:]} ! identity drop-probability=1"
    options = PlayOptions(name="csi0", stall_s=WAIT_S * 2)
    with ThreadPoolExecutor(1) as other:
        lazy = Lazy(lambda stopped: PipelineSource(silent, replace(options, stopped=stopped)), "csi0")
        opened = other.submit(lambda: next(iter(lazy)))
        time.sleep(0.3)
        assert not opened.done()
        lazy.interrupt()
        assert isinstance(opened.exception(timeout=WAIT_S), SourceError)


def test_a_live_pipeline_that_fails_is_played_again() -> None:
    events: list[Event] = []
    with open_source(f"{LIVE} ! identity error-after=5") as source:
        source.on_event = events.append
        frames = list(islice(source, 9))
    assert [frame.index for frame in frames] == list(range(9))
    assert all(one.captured_s < two.captured_s and one.time_s < two.time_s for one, two in pairwise(frames))
    kinds = [event.kind for event in events]
    assert kinds[:4] == ["connected", "lost", "reconnecting", "connected"]


def test_a_live_pipeline_that_does_not_start_yet_is_waited_for(tmp_path: Path) -> None:
    picture, waiting = tmp_path / "picture.png", threading.Event()
    uri = f"gst://filesrc location={picture} ! pngdec ! imagefreeze is-live=true ! videoconvert ! videorate"
    with open_source(uri, wait=True) as source, ThreadPoolExecutor() as pool:
        assert (source.live, source.size) == (True, (0, 0))
        source.on_event = lambda event: waiting.set() if event.kind == "reconnecting" else None
        read = pool.submit(lambda: next(iter(source)))
        assert waiting.wait(WAIT_S)
        assert cv2.imwrite(str(picture), np.zeros((96, 128, 3), np.uint8))
        assert read.result(timeout=WAIT_S).size == source.size == (96, 128)


@pytest.mark.parametrize(
    ("pipeline", "message"),
    [
        (
            f"videotestsrc num-buffers=12 ! {SIZED}",
            r"gst: GStreamer calls it a film, .*, set is-live=true \(and",
        ),
        ("filesrc location=/no/such.mp4 ! decodebin", r"failed at filesrc\d+: .*No such file"),
    ],
)
def test_a_film_is_not_waited_for(pipeline: str, message: str) -> None:
    with (
        open_source(f"gst://{pipeline}", wait=True) as source,
        ThreadPoolExecutor(1) as other,
    ):
        read = other.submit(lambda: list(source))
        try:
            problem = read.exception(timeout=WAIT_S)
        finally:
            source.interrupt()
    assert isinstance(problem, UnusableSource)
    assert re.search(message, str(problem))


def test_a_reader_that_was_away_for_long_sees_when_pictures_were_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stamps, "_OLDEST_S", 0.1)
    waiting = f"{LIVE[6:]} ! videoconvert ! video/x-raw,format=RGB ! appsink max-buffers=3"
    with PipelineSource(waiting, PlayOptions(name="gst")) as source:
        frames = iter(source)
        next(frames), next(frames)
        time.sleep(0.5)
        assert time.monotonic() - next(frames).captured_s > 0.3


def test_the_end_of_a_live_pipeline_is_the_end() -> None:
    events: list[Event] = []
    with open_source(f"gst://videotestsrc is-live=true num-buffers=8 ! {SIZED}") as source:
        source.on_event = events.append
        frames = list(source)
    assert 1 <= len(frames) <= 8
    assert [event.kind for event in events] == ["connected", "ended"]


def test_a_camera_that_ends() -> None:
    options = PlayOptions(name="csi0", endless=True)
    with (
        PipelineSource(
            "videotestsrc is-live=true num-buffers=4 ! video/x-raw,framerate=50/1", options
        ) as source,
        pytest.raises(SourceError, match=r"csi0 stopped after \d pictures, and a camera has no end; .*argus"),
    ):
        list(source)


def test_a_failure_in_mid_stream() -> None:
    frames = []
    with (
        open_source(f"gst://videotestsrc num-buffers=20 ! {SIZED} ! identity error-after=5") as source,
        pytest.raises(SourceError, match=r"failed at identity\d+: Failed after iterations as requested"),
    ):
        frames.extend(source)
    assert [frame.index for frame in frames] == [0, 1, 2, 3], "what came before it is given first"


@pytest.mark.parametrize(
    ("pipeline", "message"),
    [
        ("", r"gst:// has no pipeline, expected one such as gst://v4l2src"),
        ("foo ! bar", r"'foo ! bar' is no pipeline: no element \"foo\"; gst-inspect-1.0 foo says"),
        ("nvarguscamerasrc", "nvarguscamerasrc is part of JetPack, and this machine is no Jetson"),
        ("videotestsrc speed=3", r"no property \"speed\" in element \"videotestsrc\""),
        ("videotestsrc ! autovideosink", r"could not link autovideosink\d+ to videoconvert\d+; .*no sink"),
        ("audiotestsrc ! audioconvert", r"could not link .*the last one must give raw video"),
        ("filesrc location=/no/such ! decodebin", r"failed at filesrc\d+: .*No such file \"/no/such\""),
        ("videotestsrc ! video/x-raw,format=NV12 ! appsink", "not-negotiated.*videoconvert changes pixels"),
        ("videotestsrc ! tee name=t ! appsink t. ! queue ! appsink", "has 2 appsinks, expected one"),
        ("appsink", "is one element, expected element ! element"),
        ("videotestsrc num-buffers=0", "gst ended without a single picture"),
        ("v4l2src device=/dev/video97", "Cannot identify device '/dev/video97'"),
    ],
)
def test_pipelines_that_do_not_play(pipeline: str, message: str) -> None:
    before = held()
    with pytest.raises(SourceError, match=message):
        open_source(f"gst://{pipeline}")
    gc.collect()
    assert held()[1] == before[1]


def test_a_camera_of_a_jetson_on_another_machine() -> None:
    with pytest.raises(
        SourceError, match="nvarguscamerasrc is part of JetPack, and this machine is no Jetson"
    ):
        open_source("csi://0")


def test_doctor_says_which() -> None:
    assert re.fullmatch(r"GStreamer 1\.\d+\.\d+, through PyGObject", describe_gstreamer())


def test_passwords_are_not_shown() -> None:
    pipeline = (
        "rtspsrc location=rtsp://admin:hunter2@127.0.0.1:9/a user-pw=hunter2 ! rtph264depay ! avdec_h264"
    )
    with pytest.raises(SourceError) as caught:
        open_source(f"gst://{pipeline}")
    assert "hunter2" not in str(caught.value)
    assert "127.0.0.1:9" in str(caught.value)


@pytest.mark.parametrize(
    "pipeline",
    [
        "rtspsrc location=rtsp://admin:{}@127.0.0.1:9/a ! rtph264depay ! avdec_h264",
        "rtspsrc location=rtsp://127.0.0.1:9/user=admin_password={}_channel=1 ! rtph264depay ! avdec_h264",
        'rtspsrc location="rtsp://127.0.0.1:9/a" user-pw = "{}" speed=9 ! fakesink',
        "{}src user-pw={} ! fakesink",
        "souphttpsrc location=http://admin:{}@127.0.0.1:9/a ! jpegdec",
        "rtspsrc location=rtsp://admin:hunter2 hunter3@127.0.0.1:9/a ! rtph264depay ! avdec_h264",
    ],
)
def test_no_part_of_a_password_is_in_an_error(pipeline: str, capfd: pytest.CaptureFixture[str]) -> None:
    text = pipeline.replace("{}src", "rtspsrc").replace("{}", "hunter2/@x_hunter3")
    with pytest.raises(SourceError) as caught:
        open_source(f"gst://{text}")
    told = "".join(traceback.format_exception(caught.value)) + repr(caught.value.__context__)
    assert "hunter" not in told + "".join(capfd.readouterr())


def test_memory_stays_as_it_is() -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    film = "gst://videotestsrc num-buffers={} ! video/x-raw,width=640,height=480"
    with open_source(film.format(50)) as source:
        assert len(list(islice(source, 50))) == 50
    before = resident()
    threads = threading.active_count()
    with open_source(film.format(1000)) as source:
        previous = None
        for frame in source:
            assert previous is None or previous.index + 1 == frame.index
            previous = frame
    assert previous is not None
    assert previous.index == 999
    assert resident() - before < 30e6
    assert threading.active_count() == threads


def test_frames_do_not_share_memory() -> None:
    with open_source(f"gst://videotestsrc num-buffers=9 pattern=ball ! {SIZED}") as source:
        frames = list(source)
    assert not any(np.shares_memory(one.image, two.image) for one, two in pairwise(frames))
    assert any((one.image != two.image).any() for one, two in pairwise(frames))
