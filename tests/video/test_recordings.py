"""Recordings that are started again, killed, and written beside others: nothing is ever lost or replaced."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from deliveries import delivery
from drives import CLASSES, SIZE, Bytes, feed, frame_at, picture, results, see
from live import until

from pixelrt.cli.live_report import show
from pixelrt.encoding import drafts
from pixelrt.errors import DeviceLost, SinkError, SourceError
from pixelrt.segmentation import Segmenter
from pixelrt.testing import fake_segmenter
from pixelrt.video.frame import Frame
from pixelrt.video.run import Run, RunOptions
from pixelrt.video.sinks import open_sink, open_sinks
from pixelrt.video.sinks.places import file_names, timed
from pixelrt.video.sources import IteratorSource, Source, open_source

RECORDINGS = ["mp4", "mkv", "mcap", "rrd", "jsonl"]


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


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def record(uri: str, source: Source, segmenter: Segmenter, count: int = 3) -> list[str]:
    """Names of the files of a run."""
    with open_sink(uri, source) as sink:
        feed(sink, results(segmenter, count))
        return [path.name for path in sink.close()]


# Started again


@pytest.mark.parametrize("suffix", RECORDINGS)
def test_a_recorder_that_is_started_again_goes_on(
    tmp_path: Path, camera: Source, segmenter: Segmenter, suffix: str
) -> None:
    uri = f"{tmp_path}/rec.{suffix}?segment=0.15"
    assert record(uri, camera, segmenter) == [f"rec.{suffix}", f"rec-2.{suffix}"]
    before = contents(tmp_path)
    assert record(uri, camera, segmenter) == [f"rec-3.{suffix}", f"rec-4.{suffix}"]
    after = contents(tmp_path)
    assert len(after) == 4
    assert {name: after[name] for name in before} == before


@pytest.mark.parametrize("suffix", RECORDINGS)
def test_all_recordings_of_a_run_are_cut_at_the_same_frames(
    tmp_path: Path, camera: Source, segmenter: Segmenter, suffix: str
) -> None:
    """Also where the clock of a camera is set meanwhile."""
    with open_sink(f"{tmp_path}/rec.{suffix}?segment=0.25", camera) as sink:
        for index in range(6):
            sink.write(delivery(clock_set(frame_at(index)), segmenter(picture(index))))
            assert len([path for path in tmp_path.iterdir() if path.suffix == f".{suffix}"]) == index // 3
        assert len(sink.close()) == 2


def clock_set(frame: Frame) -> Frame:
    assert frame.clock_s is not None
    return dataclasses.replace(frame, clock_s=frame.clock_s + 60 * (frame.index >= 2))


def test_sources_that_began_long_after_each_other_share_parts(tmp_path: Path, segmenter: Segmenter) -> None:
    """Each has its own clock: a part is over when one of them says so, not when they differ."""
    cameras = [IteratorSource([picture(0)], name=name, live=True) for name in ("early", "late")]
    (sink,) = open_sinks([f"{tmp_path}/rec.jsonl?segment=0.25"], *cameras)
    with sink:
        for index in range(6):
            for name, first in (("early", 90), ("late", 0)):
                feed(sink, results(segmenter, 1, name, first + index))
        assert [len(path.read_text().splitlines()) for path in sink.close()] == [6, 6]


@pytest.mark.parametrize(("options", "name"), [("", "out.mp4"), ("?keep=yes", "out-2.mp4")])
def test_a_file_is_replaced_unless_it_is_a_recording(
    tmp_path: Path, film: Source, segmenter: Segmenter, options: str, name: str
) -> None:
    (tmp_path / "out.mp4").write_bytes(b"of another run")
    assert record(f"{tmp_path}/out.mp4{options}", film, segmenter) == [name]
    assert ((tmp_path / "out.mp4").read_bytes() == b"of another run") == bool(options)


def test_numbers_go_on_behind_the_highest_one(tmp_path: Path, camera: Source, segmenter: Segmenter) -> None:
    """Who deletes the oldest files still finds them in their order."""
    (tmp_path / "rec-12.jsonl").write_bytes(b"of another run")
    assert record(f"{tmp_path}/rec.jsonl", camera, segmenter) == ["rec-13.jsonl"]


def test_a_part_that_nothing_came_for_is_not_counted(
    tmp_path: Path, film: Source, segmenter: Segmenter
) -> None:
    """The first frame has another size than the source said."""
    small = picture(0)[:64]
    with open_sink(tmp_path / "out.mp4", film) as sink:
        sink.write(delivery(frame_at(0, size=(64, 96)), segmenter(small)))
        assert [path.name for path in sink.close()] == ["out.mp4"]


@pytest.mark.parametrize("target", ["masks", "results.npz"])
def test_a_camera_s_folder_is_a_new_one(
    tmp_path: Path, camera: Source, film: Source, segmenter: Segmenter, target: str
) -> None:
    """A camera counts its frames anew after each start, so their names come again."""
    stem, _, suffix = target.partition(".")
    end = f".{suffix}" if suffix else ""
    assert record(f"{tmp_path}/{target}/", camera, segmenter) == [target]
    assert record(f"{tmp_path}/{target}/", camera, segmenter) == [f"{stem}-2{end}"]
    assert record(f"{tmp_path}/{target}/", camera, segmenter) == [f"{stem}-3{end}"]
    assert record(f"{tmp_path}/{target}/", film, segmenter) == [target]


def test_the_time_of_the_start(tmp_path: Path, camera: Source, segmenter: Segmenter) -> None:
    start = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
    (name,) = record(f"{tmp_path}/rec-{{time}}.jsonl", camera, segmenter)
    written = datetime.datetime.strptime(f"{name[4:-6]}+0000", "%Y%m%dT%H%M%SZ%z")
    assert start <= written <= datetime.datetime.now(datetime.timezone.utc)
    zone = datetime.timezone(datetime.timedelta(hours=2))
    when = datetime.datetime(2026, 3, 1, 0, 30, 9, tzinfo=zone)
    assert timed("a-{time}/{source}.mp4", when) == "a-20260228T223009Z/{source}.mp4"


def test_one_time_for_all_of_a_run(tmp_path: Path, film: Source) -> None:
    sinks = open_sinks([f"{tmp_path}/{{time}}.{suffix}" for suffix in ("mp4", "jsonl")], film)
    assert len({Path(getattr(sink, "name", "")).stem for sink in sinks}) == 1
    for sink in sinks:
        sink.abort()
    with pytest.raises(SinkError, match="asked for twice"):
        open_sinks([f"{tmp_path}/{{time}}.jsonl", f"{tmp_path}/./{{time}}.jsonl"], film)


@pytest.mark.parametrize("target", ["{tme}.jsonl", "{tme}.mp4"])
def test_a_field_that_nobody_fills_in(tmp_path: Path, film: Source, target: str) -> None:
    with pytest.raises(SinkError, match=r"has \{tme\} in it \(did you mean '\{time\}'\?\)"):
        open_sink(f"{tmp_path}/{target}", film)


@pytest.mark.parametrize("suffix", ["mcap", "rrd"])
def test_parts_do_not_depend_on_the_clock_of_the_machine(
    tmp_path: Path, film: Source, segmenter: Segmenter, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is set by a year between two frames of a camera that has no clock."""
    now_ns, frame = time.time_ns, dataclasses.replace(frame_at(0), clock_s=None)
    with open_sink(f"{tmp_path}/out.{suffix}?segment=600", film) as sink:
        for years in (0, 1):
            monkeypatch.setattr(time, "time_ns", lambda years=years: now_ns() + years * 31_536_000 * 10**9)
            sink.write(delivery(frame, segmenter(frame.image)))
        assert [path.name for path in sink.close()] == [f"out.{suffix}"]


# After an error


def test_parts_that_are_there_are_told_when_a_later_one_cannot_be_begun(
    tmp_path: Path, camera: Source, segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "rec"
    folder.mkdir()
    with open_sink(f"{folder}/a.jsonl?segment=0.15", camera) as sink:
        feed(sink, results(segmenter, 2))
        monkeypatch.setattr(drafts, "temporary_for", lambda path: tmp_path / "gone" / path.name)
        for index in (2, 3):
            with pytest.raises(
                SinkError, match=rf"a-2\.jsonl cannot be written .*; kept: {folder}/a\.jsonl$"
            ):
                feed(sink, results(segmenter, 1, first=index))
        assert [path.name for path in sink.close()] == ["a.jsonl"]
    assert [path.name for path in folder.iterdir()] == ["a.jsonl"]


def test_where_recordings_are_is_told_after_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The network fails in the third part of a camera's recording."""

    def failing(frame: Bytes) -> Bytes:
        if frame[0, 0, 2] == 7:
            until(lambda: [sink.written for sink in job.report().sinks] == [7] * 4)
            raise DeviceLost("the GPU is gone")
        return np.zeros(SIZE, np.uint8)

    images = [np.full((*SIZE, 3), index, np.uint8) for index in range(9)]
    frames = [dataclasses.replace(frame_at(index), image=image) for index, image in enumerate(images)]
    source = IteratorSource(frames, name="front camera", fps=10, live=True)
    places = ("rec.jsonl?segment=0.25", "rec.mkv?segment=0.25", "masks/", "one.jsonl")
    with fake_segmenter(failing, CLASSES, SIZE) as segmenter:
        sinks = open_sinks([f"{tmp_path}/{place}" for place in places], source)
        job = Run(segmenter, source, sinks, options=RunOptions(policy="all"))
        with pytest.raises(DeviceLost):
            job.execute()
    report = job.report()
    expected = [
        *(f"rec{end}.{suffix}" for suffix in ("jsonl", "mkv") for end in ("", "-2", "-3-unfinished")),
        "masks",
        "one-unfinished.jsonl",
    ]
    outputs = [f"{tmp_path}/{name}" for name in expected]
    assert sorted(report.outputs) == sorted(outputs)
    assert all(Path(path).exists() for path in outputs)
    assert json.loads(report.to_json())["outputs"] == list(report.outputs)
    show(report, None, failed=True)
    assert "\n".join(["Written", *(f"  {path}" for path in report.outputs)]) in capsys.readouterr().out


# Beside others


def test_parts_leave_files_of_others_alone(tmp_path: Path, film: Source, segmenter: Segmenter) -> None:
    """Those that are there, and those that other sinks will write."""
    (tmp_path / "a-2.jsonl").write_bytes(b"of somebody else")
    sinks = open_sinks(
        [f"{tmp_path}/a.jsonl?segment=0.15", tmp_path / "a-4.jsonl"], film, others=[tmp_path / "a-3.jsonl"]
    )
    for sink in sinks:
        feed(sink, results(segmenter, 7))
    written = [[path.name for path in sink.close()] for sink in sinks]
    assert written == [["a-5.jsonl", "a-6.jsonl", "a-7.jsonl", "a-8.jsonl"], ["a-4.jsonl"]]
    assert (tmp_path / "a-2.jsonl").read_bytes() == b"of somebody else"


def test_parts_of_a_file_that_is_replaced_replace_nothing(
    tmp_path: Path, film: Source, segmenter: Segmenter
) -> None:
    for name in ("out.mp4", "out-2.mp4"):
        (tmp_path / name).write_bytes(b"of another run")
    with open_sink(tmp_path / "out.mp4", film) as sink:
        for index, size in enumerate([(96, 144), (64, 96)]):
            sink.write(delivery(frame_at(index, size=size), segmenter(picture(index, size))))
        assert [path.name for path in sink.close()] == ["out.mp4", "out-3.mp4"]
    assert (tmp_path / "out-2.mp4").read_bytes() == b"of another run"


def test_two_recorders_of_one_place(tmp_path: Path, camera: Source, segmenter: Segmenter) -> None:
    first = open_sink(f"{tmp_path}/rec.jsonl", camera)
    second = open_sink(f"{tmp_path}/rec.jsonl", camera)
    for sink, count in ((first, 1), (second, 2)):
        feed(sink, results(segmenter, count))
    assert [path.name for sink in (second, first) for path in sink.close()] == ["rec-2.jsonl", "rec.jsonl"]
    assert [len((tmp_path / f"rec{end}.jsonl").read_bytes().splitlines()) for end in ("", "-2")] == [1, 2]


def test_a_folder_that_nobody_may_list(
    tmp_path: Path,
    camera: Source,
    film: Source,
    segmenter: Segmenter,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Which numbers are there cannot be seen; a file that is to be replaced is."""

    def refuse(path: Path) -> Iterator[Path]:
        raise PermissionError(13, "Permission denied")

    allowed = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.R_OK and allowed(path, mode))
    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(SinkError, match=r"rec\.jsonl cannot be written \(Permission denied\)"):
        record(f"{tmp_path}/rec.jsonl", camera, segmenter)
    assert record(f"{tmp_path}/rec.jsonl", film, segmenter) == ["rec.jsonl"]


@pytest.mark.parametrize("suffix", RECORDINGS)
def test_a_file_that_appears_meanwhile_stays(
    tmp_path: Path, film: Source, segmenter: Segmenter, suffix: str
) -> None:
    """And so does the recording."""
    sink = open_sink(f"{tmp_path}/out.{suffix}", film)
    feed(sink, results(segmenter))
    (tmp_path / f"out.{suffix}").write_bytes(b"precious")
    message = rf"somebody else has made that file meanwhile\); .* is in .*/out-unfinished\.{suffix}"
    with pytest.raises(SinkError, match=message):
        sink.close()
    assert (tmp_path / f"out.{suffix}").read_bytes() == b"precious"
    assert (tmp_path / f"out-unfinished.{suffix}").stat().st_size > 100
    assert len(list(tmp_path.iterdir())) == 2


class Named:
    """A source of a name, maybe a file."""

    def __init__(self, name: str, *paths: str) -> None:
        self.name, self.paths = name, paths


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (["a.mp4", "a-3.mp4", "d/a.mp4"], ("a", "a-3", "a-2")),
        (["a.mp4", "d/a.mp4", "a-2.mp4"], ("a", "a-3", "a-2")),
        (["a.mp4", "b/a.mp4", "c/a.mp4"], ("a", "a-2", "a-3")),
        (["a.mp4", "A.mp4", "A-2.mp4"], ("a", "A-3", "A-2")),
    ],
)
def test_names_of_sources_are_never_the_same(files: list[str], names: tuple[str, ...]) -> None:
    assert file_names([Named(Path(file).name, file) for file in files]) == names


# Killed


def frames_in(path: Path) -> int:
    """How many frames can be read of a video that was cut."""
    count = 0
    with open_source(path) as opened, contextlib.suppress(SourceError):
        for _ in opened:
            count += 1
    return count


KILLED = """
    import os, sys
    sys.path.insert(0, {support!r})
    from drives import *
    from pixelrt.video.sinks import open_sink
    from pixelrt.video.sources import IteratorSource
    with see() as segmenter, IteratorSource([picture(0)], fps=10, live=True) as source:
        sink = open_sink("out.{suffix}", source)
        feed(sink, results(segmenter, {count}))
        print("written", flush=True)
        sys.stdin.read()
"""


def kill_recorder(folder: Path, suffix: str, count: int, camera: Source | None = None) -> None:
    """Record frames, and kill the process before it closes the file; before that open a sink of `camera`."""
    support = str(Path(__file__).parents[1] / "support")
    script = textwrap.dedent(KILLED).format(support=support, suffix=suffix, count=count)
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"written\n"
        if camera is not None:
            before = sorted(folder.iterdir())
            open_sink(folder / f"out.{suffix}", camera).abort()
            assert sorted(folder.iterdir()) == before
        process.send_signal(signal.SIGKILL)
        process.wait()


@pytest.mark.parametrize("suffix", ["mp4", "rrd", "jsonl"])
def test_what_a_killed_run_left_is_kept_by_the_next_one(
    tmp_path: Path,
    camera: Source,
    segmenter: Segmenter,
    suffix: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """And not before it was killed: somebody else may record to the same place."""
    kill_recorder(tmp_path, suffix, 80, camera)
    (hidden,) = tmp_path.iterdir()
    assert hidden.name.startswith(".")
    content = hidden.read_bytes()
    assert record(f"{tmp_path}/out.{suffix}", camera, segmenter) == [f"out.{suffix}"]
    kept = tmp_path / f"out-unfinished.{suffix}"
    assert sorted(tmp_path.iterdir()) == sorted([kept, tmp_path / f"out.{suffix}"])
    assert kept.read_bytes() == content
    assert f"{kept} is what a run that was killed left; it is kept\n" in capsys.readouterr().err


def test_what_a_run_of_another_time_left_is_found(
    tmp_path: Path, camera: Source, segmenter: Segmenter
) -> None:
    for name in (
        "a-20261128T175646Z",
        "a-20261128T175646Z-3",
        "a-b",
        "b-20261128T175646Z",
        "a-20261128T1756Z",
    ):
        (tmp_path / f".{name}.jsonl.0123abcd.tmp").write_text("{}\n")
    record(f"{tmp_path}/a-{{time}}.jsonl", camera, segmenter)
    found = sorted(name for name in contents(tmp_path) if "unfinished" in name)
    assert found == ["a-20261128T175646Z-3-unfinished.jsonl", "a-20261128T175646Z-unfinished.jsonl"]
    assert sum(name.startswith(".") for name in contents(tmp_path)) == 3


def test_hidden_files_without_content_go_when_they_are_old(
    tmp_path: Path, camera: Source, segmenter: Segmenter
) -> None:
    """A fresh one may be about to be written."""
    old, fresh = (tmp_path / f".rec.jsonl.{digit * 8}.tmp" for digit in "01")
    for path in (old, fresh):
        path.touch()
    os.utime(old, (0, 0))
    record(f"{tmp_path}/rec.jsonl", camera, segmenter)
    assert (old.exists(), fresh.exists()) == (False, True)


def test_what_was_kept_is_kept(tmp_path: Path, camera: Source, segmenter: Segmenter) -> None:
    for count in (20, 3):
        with pytest.raises(RuntimeError), open_sink(f"{tmp_path}/out.jsonl", camera) as sink:
            feed(sink, results(segmenter, count))
            raise RuntimeError
    lines = {name: len(content.splitlines()) for name, content in contents(tmp_path).items()}
    assert lines == {"out-unfinished.jsonl": 20, "out-unfinished-2.jsonl": 3}


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv"])
@pytest.mark.parametrize("count", [25, 57])
def test_a_killed_camera_loses_a_second_and_a_frame(tmp_path: Path, suffix: str, count: int) -> None:
    """At ten frames a second: also of a recording that is shorter than what encoders like to look ahead."""
    kill_recorder(tmp_path, suffix, count)
    (hidden,) = tmp_path.iterdir()
    assert count - 12 <= frames_in(hidden) <= count
