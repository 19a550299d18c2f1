"""MCAP files that Foxglove shows: read back by the library `mcap`, and by PixelRT's own source."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from deliveries import delivery
from drives import SIZE, START_S, blobs, feed, picture, results, see
from mcap.reader import make_reader

from pixelrt.errors import SinkError, SourceError
from pixelrt.segmentation import Segmenter
from pixelrt.testing import fake_segmenter
from pixelrt.video.sinks import open_sink, open_sinks
from pixelrt.video.sources import Frame, IteratorSource, Source, open_source


@pytest.fixture
def segmenter() -> Iterator[Segmenter]:
    with see() as made:
        yield made


@pytest.fixture
def source() -> Iterator[Source]:
    with IteratorSource([picture(0)], name="front camera") as opened:
        yield opened


def messages(path: Path) -> dict[str, list[tuple[Any, Any, Any]]]:
    """Schema, channel and message of all that is in a file, by topic."""
    found: dict[str, list[tuple[Any, Any, Any]]] = {}
    with path.open("rb") as stream:
        for schema, channel, message in make_reader(stream, validate_crcs=True).iter_messages():
            found.setdefault(channel.topic, []).append((schema, channel, message))
    return found


def test_topics_types_and_times(tmp_path: Path, source: Source, segmenter: Segmenter) -> None:
    """Overlays too, unless they are left out: a mask of class ids is nearly black in a viewer."""
    with open_sink(tmp_path / "out.mcap", source) as sink:
        assert sink.wants_overlay
        feed(sink, results(segmenter))
    found = messages(tmp_path / "out.mcap")
    assert {topic: (each[0][0].name, each[0][1].message_encoding) for topic, each in found.items()} == {
        "/front_camera/camera": ("foxglove.CompressedImage", "protobuf"),
        "/front_camera/mask": ("foxglove.RawImage", "protobuf"),
        "/front_camera/overlay": ("foxglove.CompressedImage", "protobuf"),
        "/front_camera/coverage": ("pixelrt.Coverage", "json"),
        "/front_camera/latency": ("pixelrt.Latency", "json"),
    }
    for each in found.values():
        times = [message.log_time / 1e9 for _, _, message in each]
        assert times == pytest.approx([START_S + index / 10 for index in range(6)], abs=1e-6)


def test_the_index_and_the_classes(tmp_path: Path, source: Source, segmenter: Segmenter) -> None:
    with open_sink(tmp_path / "out.mcap", source) as sink:
        feed(sink, results(segmenter))
    with (tmp_path / "out.mcap").open("rb") as stream:
        reader = make_reader(stream)
        summary = reader.get_summary()
        assert summary is not None
        assert summary.statistics is not None
        assert summary.statistics.message_count == 6 * 5
        assert {chunk.compression for chunk in summary.chunk_indexes} == {"zstd"}
        (metadata,) = reader.iter_metadata()
        channel = next(each for each in summary.channels.values() if each.topic.endswith("/mask"))
    classes = json.loads(metadata.metadata["classes"])
    assert [(each["id"], each["name"]) for each in classes] == [(0, "sky"), (1, "road"), (2, "left lane")]
    assert all(each["color"].startswith("#") and len(each["color"]) == 7 for each in classes)
    assert metadata.name == "pixelrt.classes /front_camera"
    assert json.loads(channel.metadata["pixelrt.classes"]) == classes


def test_numbers_have_schemas(tmp_path: Path, source: Source, segmenter: Segmenter) -> None:
    with open_sink(tmp_path / "out.mcap", source) as sink:
        feed(sink, results(segmenter))
    found = messages(tmp_path / "out.mcap")
    schema, _, message = found["/front_camera/coverage"][2]
    properties, values = json.loads(schema.data)["properties"], json.loads(message.data)
    assert properties.keys() == values.keys() == {"timestamp", "sky", "road", "left lane"}
    for id_, name in enumerate(("sky", "road", "left lane")):
        assert values[name] == pytest.approx((blobs(2) == id_).mean())
    assert values["timestamp"]["sec"] == int(START_S)
    schema, _, message = found["/front_camera/latency"][0]
    ages = json.loads(message.data)
    assert json.loads(schema.data)["properties"].keys() == ages.keys()
    assert [ages[f"{stage}_ms"] for stage in ("received", "submitted", "computed", "delivered")] == [
        1,
        2,
        3,
        4,
    ]


@pytest.mark.parametrize("color", ["rgb", "bgr"])
def test_what_was_written_is_a_source(
    tmp_path: Path, source: Source, segmenter: Segmenter, color: Any
) -> None:
    """Masks to the pixel, pictures as JPEG has them, times to the microsecond."""
    frames = [
        Frame(image=picture(i)[..., :: 1 if color == "rgb" else -1], index=i, time_s=i / 10, name=str(i),
              clock_s=START_S + i / 10, color=color)
        for i in range(4)
    ]  # fmt: skip
    network = fake_segmenter(lambda frame: blobs(0), classes=("a", "b", "c"), size=SIZE)
    with network, open_sink(f"{tmp_path}/out.mcap?quality=97", source) as sink:
        for frame in frames:
            sink.write(delivery(frame, network(frame.image)))
    with open_source(f"{tmp_path}/out.mcap?topic=/source/mask") as masks:
        assert (masks.num_frames, masks.size, masks.fps) == (4, SIZE, pytest.approx(10, rel=1e-4))
        for frame in masks:
            np.testing.assert_array_equal(frame.image[..., 0], blobs(0))
            assert frame.clock_s == pytest.approx(START_S + frame.index / 10, abs=1e-6)
    for options in ("", "?topic=/source/camera"):
        with open_source(f"{tmp_path}/out.mcap{options}") as cameras:
            assert cameras.num_frames == 4
            for frame in cameras:
                assert np.abs(frame.image.astype(int) - picture(frame.index)).mean() < 3


def test_what_is_no_picture_of_a_camera_is_read_when_it_is_asked_for(
    tmp_path: Path, source: Source, segmenter: Segmenter
) -> None:
    """Of several cameras, or where there is none, nothing is chosen."""
    with open_sink(f"{tmp_path}/results.mcap?camera=no", source) as sink:
        feed(sink, results(segmenter, 2))
    with pytest.raises(
        SourceError, match=r"holds 2 topics .*; choose one, such as .*\?topic=/front_camera/mask"
    ):
        open_source(tmp_path / "results.mcap")
    with open_sink(f"{tmp_path}/two.mcap", source) as sink:
        for name in ("front", "rear"):
            feed(sink, results(segmenter, 2, name))
    with pytest.raises(SourceError, match=r"holds 6 topics .*; choose one, such as .*\?topic=/front/camera"):
        open_source(tmp_path / "two.mcap")


def test_topics_are_left_out(tmp_path: Path, source: Source, segmenter: Segmenter) -> None:
    with open_sink(f"{tmp_path}/out.mcap?camera=no&mask=no&overlay=no", source) as sink:
        feed(sink, results(segmenter))
        assert not sink.wants_overlay
    assert messages(tmp_path / "out.mcap").keys() == {"/front_camera/coverage", "/front_camera/latency"}


def test_quality(tmp_path: Path, source: Source, segmenter: Segmenter) -> None:
    sizes = []
    for quality in (10, 95):
        with open_sink(f"{tmp_path}/{quality}.mcap?quality={quality}", source) as sink:
            feed(sink, results(segmenter))
        sizes.append((tmp_path / f"{quality}.mcap").stat().st_size)
    assert sizes[0] < sizes[1]


def test_several_sources_in_one_file(tmp_path: Path, segmenter: Segmenter) -> None:
    names = ("front/left", "front left", "rear")
    sources = [IteratorSource([picture(0)], name=name) for name in names]
    (sink,) = open_sinks([tmp_path / "out.mcap"], *sources)
    with sink:
        for name in names:
            feed(sink, results(segmenter, 2, name))
    found = messages(tmp_path / "out.mcap")
    assert {topic for topic in found if topic.endswith("mask")} == {
        "/front_left/mask",
        "/front_left_2/mask",
        "/rear/mask",
    }
    assert {len(each) for each in found.values()} == {2}


def test_segments(tmp_path: Path, source: Source, segmenter: Segmenter) -> None:
    with open_sink(f"{tmp_path}/out.mcap?segment=0.15", source) as sink:
        feed(sink, results(segmenter, 7))
        first = messages(tmp_path / "out.mcap")  # whole as soon as the next one begins
        outputs = sink.close()
    assert len(first["/front_camera/mask"]) == 2
    assert [path.name for path in outputs] == ["out.mcap", "out-2.mcap", "out-3.mcap", "out-4.mcap"]
    with open_source(f"{tmp_path}?topic=/front_camera/mask") as again:
        np.testing.assert_array_equal(
            [frame.image[..., 0] for frame in again], [blobs(index) for index in range(7)]
        )


@pytest.mark.parametrize("options", ["", "?segment=0.15"])
def test_a_film_has_its_own_times(tmp_path: Path, source: Source, segmenter: Segmenter, options: str) -> None:
    """However fast it is read; so it is played at its speed, from now on, and cut by it."""
    captured_s, began_s = time.monotonic(), time.time()
    with open_sink(f"{tmp_path}/out.mcap{options}", source) as sink:
        for index in range(4):
            frame = Frame(image=picture(index), index=index, time_s=index / 10, name=str(index),
                          captured_s=captured_s + index / 1000)  # fmt: skip
            sink.write(delivery(frame, segmenter(frame.image)))
        files = sink.close()
    assert len(files) == (2 if options else 1)
    times = [at.log_time / 1e9 for file in files for _, _, at in messages(file)["/source/mask"]]
    assert times == pytest.approx([times[0] + index / 10 for index in range(4)], abs=1e-6)
    assert 0 <= times[0] - began_s < 30
    with open_source(tmp_path / "out.mcap") as again:
        assert again.fps == pytest.approx(10, rel=1e-3)


def test_without_a_clock_of_the_source_the_time_is_that_of_the_capture(
    tmp_path: Path, segmenter: Segmenter
) -> None:
    frame = Frame(image=picture(0), index=0, time_s=0, name="0", captured_s=time.monotonic() - 2)
    with (
        IteratorSource([picture(0)], live=True) as camera,
        open_sink(tmp_path / "out.mcap", camera) as sink,
    ):
        sink.write(delivery(frame, segmenter(frame.image)))
    ((_, _, message),) = messages(tmp_path / "out.mcap")["/source/mask"]
    assert message.log_time / 1e9 == pytest.approx(time.time() - 2, abs=1.5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("qualty=3", r"\.mcap has no option 'qualty' \(did you mean 'quality'\?\); known: camera, quality"),
        ("quality=101", "quality=101: expected a whole number, 1 to 100"),
        ("camera=maybe", "camera=maybe: expected yes or no"),
        ("segment=0", "segment=0: expected seconds, 0.1 to"),
        ("camera", "is not a list of key=value"),
    ],
)
def test_options_that_are_refused(tmp_path: Path, source: Source, options: str, message: str) -> None:
    with pytest.raises(SinkError, match=message):
        open_sink(f"{tmp_path}/out.mcap?{options}", source)
    assert not list(tmp_path.iterdir())


def test_a_slow_recording_is_on_the_disk_within_seconds(
    tmp_path: Path, source: Source, segmenter: Segmenter
) -> None:
    """Far less than a chunk came, and a crash would not lose it."""
    sink = open_sink(f"{tmp_path}/out.mcap?camera=no", source)
    feed(sink, results(segmenter, 3))
    (hidden,) = tmp_path.iterdir()
    assert b"/front_camera/mask" not in hidden.read_bytes()
    time.sleep(2.1)
    feed(sink, results(segmenter, 1))
    uri = f"bag://{hidden}?topic=/front_camera/mask"
    with open_source(uri) as cut, pytest.raises(SourceError, match="ends after 4 frames"):
        list(cut)
    sink.abort()


CRASH = """
    import os, sys
    sys.path.insert(0, {support!r})
    from drives import *
    from pixelrt.video.sinks import open_sink
    from pixelrt.video.sources import IteratorSource
    with see() as segmenter:
        with IteratorSource([picture(0)], name="front camera") as source:
            sink = open_sink("out.mcap?camera=no", source)
            feed(sink, results(segmenter, 1000))
            print("written", flush=True)
            sys.stdin.read()
"""


def test_a_crash_leaves_what_can_be_read(tmp_path: Path) -> None:
    """Killed in the middle: nothing has the final name, and every chunk that was written is there."""
    script = textwrap.dedent(CRASH).format(support=str(Path(__file__).parents[1] / "support"))
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"written\n"
        process.send_signal(signal.SIGKILL)
        process.wait()
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".out.mcap.")
    frames: list[Frame] = []
    with open_source(f"bag://{left}?topic=/front_camera/mask") as cut:  # noqa: SIM117
        with pytest.raises(Exception, match=r"ends after \d+ frames: it has no end: .* cut short"):
            frames.extend(cut)
    assert len(frames) > 600
    for frame in frames[:: len(frames) // 7]:
        np.testing.assert_array_equal(frame.image[..., 0], blobs(frame.index))


def test_nothing_is_left_open(tmp_path: Path, source: Source, segmenter: Segmenter) -> None:
    process = psutil.Process()

    def held() -> tuple[int, int]:
        return process.num_fds(), process.num_threads()

    with open_sink(tmp_path / "first.mcap", source) as sink:
        feed(sink, results(segmenter))
    before = held()
    for number in range(3):
        with open_sink(f"{tmp_path}/{number}.mcap?segment=0.15", source) as sink:
            feed(sink, results(segmenter))
        aborted = open_sink(f"{tmp_path}/{number}-aborted.mcap", source)
        feed(aborted, results(segmenter))
        aborted.abort()
    assert held() == before
    names = Counter(path.name.partition(".")[0].partition("-")[0] for path in tmp_path.iterdir())
    assert names == {"first": 1, "0": 3, "1": 3, "2": 3}
