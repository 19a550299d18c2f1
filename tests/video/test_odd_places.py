"""What is there where results shall go: links, pipes, devices, folders; and names and clocks of frames."""

from __future__ import annotations

import dataclasses
import json
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from deliveries import delivery
from drives import feed, frame_at, picture, results, see
from mcap.reader import make_reader

from pixelrt.encoding import ImageFolder, write_whole
from pixelrt.errors import SinkError, SourceError
from pixelrt.segmentation import Segmenter
from pixelrt.testing import fake_segmenter
from pixelrt.video.frame import Frame
from pixelrt.video.sinks import ContactSheet, Sink, open_sink
from pixelrt.video.sinks.content import FrameClock
from pixelrt.video.sources import IteratorSource, Source

FILES = ["out.mp4", "out.mcap", "out.rrd", "out.jsonl", "out.png"]
KEPT = ["out.mp4?keep=yes", "out.mcap?keep=yes", "out.jsonl?segment=9"]


@pytest.fixture
def segmenter() -> Iterator[Segmenter]:
    with see() as made:
        yield made


@pytest.fixture
def film() -> Iterator[Source]:
    with IteratorSource([picture(0)], name="film", fps=10) as opened:
        yield opened


def write_result(uri: str, source: Source, segmenter: Segmenter) -> tuple[Path, ...]:
    with open_sink(uri, source, num_frames=1) as sink:
        feed(sink, results(segmenter, 1))
        return sink.close()


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


def make_device(path: Path) -> None:
    """One like /dev/full, which only this test knows."""
    if os.geteuid() != 0:
        pytest.skip("this user may not make a device")
    try:
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 7))
    except PermissionError:
        pytest.skip("no device can be made here")


# What is there


@pytest.mark.parametrize("make", [make_pipe, make_device])
@pytest.mark.parametrize("target", FILES)
def test_nothing_but_a_file_is_replaced(
    tmp_path: Path, film: Source, segmenter: Segmenter, target: str, make: Callable[[Path], None]
) -> None:
    make(tmp_path / target)
    before = (tmp_path / target).stat()
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / target).symlink_to(tmp_path / target)
    for place in (tmp_path, tmp_path / "there"):
        with pytest.raises(SinkError, match="cannot be written: it is no file but a device, a pipe"):
            write_result(f"{place}/{target}", film, segmenter)
        with pytest.raises(SinkError, match="is no file but a device"):
            write_whole(place / target, b"figures")
    assert (tmp_path / target).stat() == before
    assert [path.name for path in (tmp_path / "there").iterdir()] == [target]
    assert len(list(tmp_path.iterdir())) == 2


def test_a_contact_sheet_does_not_replace_a_pipe(tmp_path: Path, segmenter: Segmenter) -> None:
    os.mkfifo(tmp_path / "sheet.png")
    with pytest.raises(SinkError, match="is no file but a device"):
        ContactSheet(tmp_path / "sheet.png", segmenter.classes)
    assert (tmp_path / "sheet.png").is_fifo()


@pytest.mark.parametrize("exists", [True, False])
@pytest.mark.parametrize("target", FILES)
def test_a_link_stays_and_what_it_points_to_is_written(
    tmp_path: Path, film: Source, segmenter: Segmenter, target: str, exists: bool
) -> None:
    (tmp_path / "disk").mkdir()
    if exists:
        (tmp_path / "disk" / target).write_bytes(b"old")
    (tmp_path / target).symlink_to(f"disk/{target}")
    write_result(f"{tmp_path}/{target}", film, segmenter)
    assert (tmp_path / target).is_symlink()
    assert (tmp_path / "disk" / target).stat().st_size > 50
    assert len([*tmp_path.iterdir(), *(tmp_path / "disk").iterdir()]) == 3


@pytest.mark.parametrize("target", KEPT)
def test_parts_go_where_the_link_points(
    tmp_path: Path, film: Source, segmenter: Segmenter, target: str
) -> None:
    (tmp_path / "disk").mkdir()
    name = target.partition("?")[0]
    (tmp_path / name).symlink_to(f"disk/{name}")
    for number in (1, 2):
        write_result(f"{tmp_path}/{target}", film, segmenter)
        assert len(list((tmp_path / "disk").iterdir())) == number
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("target", FILES)
def test_links_that_lead_nowhere(tmp_path: Path, film: Source, segmenter: Segmenter, target: str) -> None:
    (tmp_path / target).symlink_to(f"nowhere/{target}")
    with pytest.raises(SinkError, match=r"nowhere.*there is no (such )?folder"):
        write_result(f"{tmp_path}/{target}", film, segmenter)
    (tmp_path / target).unlink()
    (tmp_path / target).symlink_to(target)
    with pytest.raises(SinkError, match="cannot be written"):
        write_result(f"{tmp_path}/{target}", film, segmenter)
    assert [path.name for path in tmp_path.iterdir()] == [target]


def test_a_file_that_is_read_only(
    tmp_path: Path, film: Source, segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stays; a recorder that replaces nothing goes on beside it. Root may write everywhere."""
    allowed = os.access
    monkeypatch.setattr(
        os, "access", lambda path, mode: Path(path).name != "out.jsonl" and allowed(path, mode)
    )
    (tmp_path / "out.jsonl").write_bytes(b"precious")
    with pytest.raises(SinkError, match=r"out\.jsonl is read only for this user; choose another name"):
        write_result(f"{tmp_path}/out.jsonl", film, segmenter)
    assert write_result(f"{tmp_path}/out.jsonl?keep=yes", film, segmenter) == (tmp_path / "out-2.jsonl",)
    assert (tmp_path / "out.jsonl").read_bytes() == b"precious"


@pytest.mark.parametrize("place", ["", ".", "./", "..", "../", "/", "?", "?keep=yes", "a/.."])
def test_places_without_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, film: Source, place: str
) -> None:
    (tmp_path / "a").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SinkError, match="names no file and no folder of its own; expected a video"):
        open_sink(place, film)


def test_a_folder_is_for_masks_unless_a_file_was_asked_for(tmp_path: Path, film: Source) -> None:
    for name in ("masks", "x.mcap", "x.mp4", "x.png", "v1.2"):
        (tmp_path / name).mkdir()
    for name in ("x.mcap", "x.mp4", "x.png"):
        with pytest.raises(SinkError, match=rf"{name} is a folder, expected a file; .* write .*{name}/$"):
            open_sink(tmp_path / name, film)
    for name in ("masks", "v1.2", "x.mcap/"):
        open_sink(f"{tmp_path}/{name}", film).abort()


# Names of frames


@pytest.mark.parametrize("name", ["../evil", "x/y", "/tmp/evil", "a\0b"])
@pytest.mark.parametrize("target", ["in/masks/", "in/results.npz/"])
def test_a_frame_does_not_leave_its_folder(
    tmp_path: Path, film: Source, segmenter: Segmenter, target: str, name: str
) -> None:
    (tmp_path / "in").mkdir()
    frame = dataclasses.replace(frame_at(0), name=name)
    with (
        pytest.raises(SinkError, match="which is no name of a file in it"),
        open_sink(f"{tmp_path}/{target}", film) as sink,
    ):
        sink.write(delivery(frame, segmenter(frame.image)))
    assert list(tmp_path.rglob("*")) == [tmp_path / "in"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [("x" * 252, "File name too long"), ("a\ud800b", "surrogates not allowed")],
    ids=["long", "no text"],
)
@pytest.mark.parametrize("target", ["masks/", "results.npz/"])
def test_names_that_no_file_can_have(
    tmp_path: Path, film: Source, segmenter: Segmenter, target: str, name: str, reason: str
) -> None:
    frame = dataclasses.replace(frame_at(0), name=name)
    with (
        pytest.raises(SinkError, match=rf"cannot be written \(.*{reason}\)"),
        open_sink(f"{tmp_path}/{target}", film) as sink,
    ):
        sink.write(delivery(frame, segmenter(frame.image)))
    assert not list(tmp_path.iterdir())


def test_a_folder_of_links_is_left_alone(tmp_path: Path) -> None:
    """Such as a data set that points to pictures elsewhere."""
    (tmp_path / "photo.png").write_bytes(b"precious")
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks/0.png").symlink_to("../photo.png")
    with pytest.raises(SinkError, match=r"0\.png is a link to something elsewhere"):
        ImageFolder(tmp_path / "masks").write("0", picture(0))
    assert (tmp_path / "photo.png").read_bytes() == b"precious"


# Clocks of frames


@pytest.mark.parametrize("what", ["time_s", "clock_s", "captured_s"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_times_of_frames_are_numbers(what: str, value: float) -> None:
    values: dict[str, Any] = {"time_s": 0.0, what: value}
    with pytest.raises(SourceError, match=rf"frame 7 has the {what} {value}, expected a number of seconds"):
        Frame(image=picture(0), index=0, name="7", **values)


@pytest.mark.parametrize("clock_s", [-5.0, 2.0**32, 1e12, 1e300])
@pytest.mark.parametrize("target", ["out.mcap?segment=5", "out.rrd?segment=5", "out.jsonl", "out.mp4"])
def test_clocks_that_no_format_holds(
    tmp_path: Path, film: Source, segmenter: Segmenter, target: str, clock_s: float
) -> None:
    """They are none: the time is that of this machine."""
    frames = [dataclasses.replace(frame_at(index), clock_s=clock_s) for index in range(2)]
    with open_sink(f"{tmp_path}/{target}", film) as sink:
        for frame in frames:
            here = dataclasses.replace(frame, clock_s=None)
            assert abs(FrameClock().taken_ns(frame) - FrameClock().taken_ns(here)) < 60e9
            sink.write(delivery(frame, segmenter(frame.image)))
        assert len(sink.close()) == 1


# What is written


def test_a_class_called_as_the_time(tmp_path: Path, film: Source) -> None:
    names = ("timestamp", "timestamp_", "road")
    network = fake_segmenter(lambda image: image[..., 0] // 80, classes=names, size=(96, 144))
    with network as segmenter, open_sink(tmp_path / "out.mcap", film) as sink:
        feed(sink, results(segmenter, 1))
    with (tmp_path / "out.mcap").open("rb") as stream:
        ((schema, _, message),) = make_reader(stream).iter_messages(topics=["/front_camera/coverage"])
    assert schema is not None
    values = json.loads(message.data)
    assert values.keys() == json.loads(schema.data)["properties"].keys()
    assert values.keys() == {"timestamp", "timestamp__", "timestamp_", "road"}
    assert values["timestamp"].keys() == {"sec", "nsec"}
    assert sum(values[name] for name in ("timestamp__", "timestamp_", "road")) == pytest.approx(1)


def test_a_stream_is_not_asked_for_every_line(tmp_path: Path, film: Source, segmenter: Segmenter) -> None:
    """Its statistics take longer than a line does."""
    asked = 0

    def statistics() -> SimpleNamespace:
        nonlocal asked
        asked += 1
        return SimpleNamespace(sources=[SimpleNamespace(name="front camera", dropped={"newer": asked})])

    sink: Sink = open_sink(tmp_path / "out.jsonl", film)
    sink.attach(cast(Any, SimpleNamespace(statistics=statistics)))
    result = next(results(segmenter, 1))
    with sink:
        for _ in range(300):
            sink.write(result)
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [line["dropped"]["newer"] for line in lines] == sorted(line["dropped"]["newer"] for line in lines)
    assert lines[-1]["dropped"]["newer"] == asked
    assert 1 <= asked < 100
