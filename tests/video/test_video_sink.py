"""Videos of live sources: encoders that really work, parts, and what is left when something goes wrong."""

from __future__ import annotations

import dataclasses
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import psutil
import pytest
from deliveries import delivery
from drives import SIZE, feed, frame_at, picture, results, see

from pixelrt.encoding import ENCODERS, encoders
from pixelrt.encoding.encoders import Encoder, problem_of
from pixelrt.errors import SinkError, SourceError
from pixelrt.segmentation import Segmenter
from pixelrt.video.sinks import open_sink
from pixelrt.video.sinks.video_file import VideoSink
from pixelrt.video.sources import Frame, IteratorSource, Source, open_source

HARDWARE = [name for name, encoder in ENCODERS.items() if encoder.is_hardware]
SUFFIXES = ["mp4", "mov", "mkv"]


@pytest.fixture
def segmenter() -> Iterator[Segmenter]:
    with see() as made:
        yield made


@pytest.fixture
def camera() -> Iterator[Source]:
    with IteratorSource([picture(0)], name="front camera", fps=10, live=True) as opened:
        yield opened


@pytest.fixture
def film() -> Iterator[Source]:
    with IteratorSource([picture(0)], name="film", fps=10) as opened:
        yield opened


def whole(path: Path) -> list[Frame]:
    """The frames of a video, up to where it is cut."""
    frames: list[Frame] = []
    with open_source(path) as source:
        try:
            frames.extend(source)
        except SourceError:
            assert frames
    return frames


def shows(frame: Frame, index: int, segmenter: Segmenter) -> bool:
    """Whether a frame of a video is the overlay of frame `index`."""
    wanted = delivery(frame_at(index), segmenter(picture(index))).overlay()
    return bool(np.abs(frame.image.astype(int) - wanted).mean() < 15)


# Encoders


def test_the_encoder_is_one_that_works(tmp_path: Path, film: Source, segmenter: Segmenter) -> None:
    works = [name for name in ENCODERS if not problem_of(name, SIZE)]
    with open_sink(tmp_path / "out.mp4", film) as sink:
        feed(sink, results(segmenter))
        assert isinstance(sink, VideoSink)
        assert sink.codec == works[0]
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.streams.video[0].codec_context.name == ("mpeg4" if works == ["mpeg4"] else "h264")


@pytest.mark.parametrize("name", ENCODERS)
def test_an_encoder_that_was_asked_for(tmp_path: Path, film: Source, segmenter: Segmenter, name: str) -> None:
    """It is used, or it is said why not; there is no other one in its place."""
    uri = f"{tmp_path}/out.mp4?encoder={name}"
    if problem_of(name, SIZE):
        with pytest.raises(SinkError, match=rf"the encoder {name} does not work here \(.+\); leave encoder"):
            open_sink(uri, film)
        assert not list(tmp_path.iterdir())
        return
    with open_sink(uri, film) as sink:
        feed(sink, results(segmenter))
        assert isinstance(sink, VideoSink)
        assert sink.codec == name
    assert len(whole(tmp_path / "out.mp4")) == 6


def test_software_is_never_hardware(tmp_path: Path, film: Source) -> None:
    sink = open_sink(f"{tmp_path}/out.mp4?encoder=software", film)
    assert isinstance(sink, VideoSink)
    assert sink.codec not in HARDWARE
    sink.abort()


@pytest.fixture
def busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """An encoder of hardware whose trial passes, and that has no session left when a camera wants it."""
    encoder = Encoder(name="mpeg4", prompt={"qmin": "of no use"}, is_hardware=True)
    others = {name: ENCODERS[name] for name in ("libx264", "mpeg4") if name in av.codecs_available}
    monkeypatch.setattr(encoders, "ENCODERS", {"h264_nvenc": encoder, **others})
    monkeypatch.setattr(encoders, "problem_of", lambda name, size: "")


@pytest.mark.usefixtures("busy")
def test_an_encoder_without_a_session_left_costs_no_recording(
    tmp_path: Path, camera: Source, segmenter: Segmenter, capsys: pytest.CaptureFixture[str]
) -> None:
    with open_sink(f"{tmp_path}/out.mp4?segment=0.35", camera) as sink:
        feed(sink, results(segmenter))
        assert isinstance(sink, VideoSink)
        assert sink.codec == ("libx264" if "libx264" in av.codecs_available else "mpeg4")
        outputs = sink.close()
    assert [len(whole(path)) for path in outputs] == [4, 2]
    said = capsys.readouterr().err
    assert re.search(
        rf"out\.mp4: the encoder mpeg4 cannot be opened now \(.+\), so {sink.codec} is used", said
    )
    assert said.count("cannot be opened") == 1


@pytest.mark.usefixtures("busy")
def test_an_encoder_that_was_asked_for_and_has_no_session_left(tmp_path: Path, camera: Source) -> None:
    with pytest.raises(
        SinkError, match=r"out\.mp4: the encoder mpeg4 cannot be opened now \(FFmpeg says .+ may"
    ):
        open_sink(f"{tmp_path}/out.mp4?encoder=h264_nvenc", camera)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            "encoder=h264_nvnc",
            r"expected one of auto, software, h264_nvenc.* \(did you mean 'h264_nvenc'\?\)",
        ),
        ("segment=never", "segment=never: expected seconds"),
        ("keep=perhaps", "keep=perhaps: expected yes or no"),
        ("codec=h264", r"\.mp4 has no option 'codec'.*; known: encoder, segment, keep"),
    ],
)
def test_options_that_are_refused(tmp_path: Path, film: Source, options: str, message: str) -> None:
    with pytest.raises(SinkError, match=message):
        open_sink(f"{tmp_path}/out.mp4?{options}", film)
    assert not list(tmp_path.iterdir())


# Parts


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_segments(tmp_path: Path, film: Source, segmenter: Segmenter, suffix: str) -> None:
    """Each is whole under its name as soon as the next one begins."""
    seen: list[int] = []
    with open_sink(f"{tmp_path}/out.{suffix}?segment=0.35", film) as sink:
        feed(
            sink,
            results(segmenter, 10),
            after=lambda: seen.append(sum(not path.name.startswith(".") for path in tmp_path.iterdir())),
        )
        outputs = sink.close()
    assert seen == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2]
    assert [path.name for path in outputs] == [f"out.{suffix}", f"out-2.{suffix}", f"out-3.{suffix}"]
    frames = [frame for path in outputs for frame in whole(path)]
    assert [frame.time_s for frame in frames] == pytest.approx([0, 0.1, 0.2, 0.3] * 2 + [0, 0.1], abs=1e-3)
    assert all(shows(frame, index, segmenter) for index, frame in enumerate(frames))


@pytest.mark.parametrize("jump_s", [-0.05, -3e9, 1.7e9])
def test_a_clock_that_jumps_begins_a_new_part(
    tmp_path: Path, film: Source, segmenter: Segmenter, jump_s: float
) -> None:
    """A robot's clock is set when it finds the network: no video of fifty years, and none in no time."""
    times = [0, 0.1, 0.2, *(0.2 + jump_s + step for step in (0, 0.1, 0.2))]
    with open_sink(tmp_path / "out.mp4", film) as sink:
        for index, time_s in enumerate(times):
            frame = dataclasses.replace(frame_at(index), time_s=time_s)
            sink.write(delivery(frame, segmenter(frame.image)))
        outputs = sink.close()
    assert len(outputs) == 2
    for path in outputs:
        assert [frame.time_s for frame in whole(path)] == pytest.approx([0, 0.1, 0.2], abs=1e-3)


def test_a_part_does_not_overwrite_a_source(tmp_path: Path, film: Source, segmenter: Segmenter) -> None:
    with open_sink(tmp_path / "out-2.mp4", film) as sink:
        feed(sink, results(segmenter))
    before = (tmp_path / "out-2.mp4").read_bytes()
    with (
        open_source(tmp_path / "out-2.mp4") as source,
        open_sink(f"{tmp_path}/out.mp4?segment=0.35", source) as sink,
    ):
        feed(sink, results(segmenter))
        outputs = sink.close()
    assert [path.name for path in outputs] == ["out-3.mp4", "out-4.mp4"]
    assert (tmp_path / "out-2.mp4").read_bytes() == before


def test_finished_parts_outlive_an_error(tmp_path: Path, film: Source, segmenter: Segmenter) -> None:
    with pytest.raises(RuntimeError), open_sink(f"{tmp_path}/out.mp4?segment=0.35", film) as sink:
        feed(sink, results(segmenter, 6))
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]
    assert len(whole(tmp_path / "out.mp4")) == 4


# What is left


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_camera_s_recording_ends_as_an_ordinary_file(
    tmp_path: Path, camera: Source, segmenter: Segmenter, suffix: str
) -> None:
    with open_sink(f"{tmp_path}/out.{suffix}", camera) as sink:
        feed(sink, results(segmenter, 30))
    with open_source(tmp_path / f"out.{suffix}") as written:
        assert written.fps == 10
        assert written.num_frames == 30
        frames = list(written)
    assert [frame.time_s for frame in frames] == pytest.approx([index / 10 for index in range(30)], abs=1e-3)
    assert shows(frames[29], 29, segmenter)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_error_elsewhere_does_not_cost_a_camera_s_recording(
    tmp_path: Path, camera: Source, segmenter: Segmenter, suffix: str
) -> None:
    with pytest.raises(RuntimeError), open_sink(f"{tmp_path}/out.{suffix}", camera) as sink:
        feed(sink, results(segmenter, 12))
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == [f"out-unfinished.{suffix}"]
    assert len(whole(tmp_path / f"out-unfinished.{suffix}")) == 12


CRASH = """
    import sys
    sys.path.insert(0, {support!r})
    from drives import *
    from pixelrt.video.sinks import open_sink
    from pixelrt.video.sources import IteratorSource
    with see() as segmenter, IteratorSource([picture(0)], fps=10, live=True) as source:
        sink = open_sink("out.{suffix}?encoder=software", source)
        feed(sink, results(segmenter, 150))
        print("written", flush=True)
        sys.stdin.read()
"""


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_power_cut_leaves_what_plays(tmp_path: Path, segmenter: Segmenter, suffix: str) -> None:
    """Killed in the middle of 15 s: all but what the encoder held back plays, under the hidden name."""
    support = str(Path(__file__).parents[1] / "support")
    script = textwrap.dedent(CRASH).format(support=support, suffix=suffix)
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"written\n"
        process.send_signal(signal.SIGKILL)
        process.wait()
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(f".out.{suffix}.")
    frames = whole(left)
    assert len(frames) >= 60
    assert all(shows(frames[index], index, segmenter) for index in (0, 30, 59))


def test_nothing_is_left_open(tmp_path: Path, camera: Source, segmenter: Segmenter) -> None:
    process = psutil.Process()
    for number in range(3):
        with open_sink(f"{tmp_path}/{number}.mp4?segment=0.35", camera) as sink:
            feed(sink, results(segmenter))
        if number == 0:
            before = process.num_fds(), process.num_threads()
    assert (process.num_fds(), process.num_threads()) == before
