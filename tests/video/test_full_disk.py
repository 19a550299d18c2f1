"""A disk that fills while results are recorded."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from deliveries import delivery
from disks import small_disk
from drives import SIZE, see

from pixelrt.errors import SinkError, SourceError
from pixelrt.segmentation import Segmenter
from pixelrt.video.delivery import Delivery
from pixelrt.video.frame import Frame
from pixelrt.video.sinks import open_sink
from pixelrt.video.sources import IteratorSource, Source, open_source


@pytest.fixture
def segmenter() -> Iterator[Segmenter]:
    with see() as made:
        yield made


def noisy(index: int) -> Frame:
    image = np.random.default_rng(index).integers(0, 240, (*SIZE, 3), np.uint8)
    return Frame(
        image=image, index=index, time_s=index / 10, clock_s=index / 10, name=f"{index:06d}", source="noise"
    )


def noise(segmenter: Segmenter) -> Iterator[Delivery]:
    """Results that no encoder makes small, for ever."""
    index = 0
    while True:
        frame = noisy(index)
        yield delivery(frame, segmenter(frame.image))
        index += 1


def size_kb(target: str) -> int:
    """Of a disk that is soon full. MCAP comes in chunks of 4 MiB; Rerun's files end while 64 MiB are left."""
    return {".mcap": 10_000, ".rrd": 70_000, ".jsonl": 100}.get(Path(target).suffix, 600)


def source(*, live: bool) -> Source:
    return IteratorSource([noisy(0)], name="noise", fps=10, live=live)


TARGETS = ["out.mp4", "out.mkv", "out.mcap", "out.rrd", "out.jsonl", "masks/", "results.npz/"]


def fill(uri: str, opened: Source, segmenter: Segmenter) -> tuple[str, int]:
    """Record until the disk is full: what is said, and how many results were taken."""
    count = 0
    with pytest.raises(SinkError) as problem, opened, open_sink(uri, opened) as sink:
        for each in noise(segmenter):
            sink.write(each)
            count += 1
    return str(problem.value), count


@pytest.mark.parametrize("target", TARGETS)
def test_it_is_said_and_nothing_half_written_is_left(
    tmp_path: Path, segmenter: Segmenter, target: str
) -> None:
    with small_disk(tmp_path / "disk", size_kb(target)) as disk:
        check_the_end(disk, segmenter, target)


def check_the_end(disk: Path, segmenter: Segmenter, target: str) -> None:
    process = psutil.Process()
    message, count = fill(f"{disk}/{target}", source(live=False), segmenter)
    assert "cannot be written" in message
    assert ("less than 64 MiB are left" if target == "out.rrd" else "No space left on device") in message
    assert count > 3
    assert not [file for file in process.open_files() if file.path.startswith(str(disk))]
    left = [path for path in disk.rglob("*") if path.is_file()]
    if target.endswith("/"):  # every file that has a name is whole
        assert len(left) == count
        assert all(path.stat().st_size for path in left)
        assert message.endswith(f"; the {count} before it are whole, and kept in {disk}/{target}")
    else:
        assert left == []


def frames_in(path: Path) -> int:
    """How many frames can be read of a file that was cut."""
    count = 0
    with open_source(f"{path}?topic=/noise/mask" if path.suffix == ".mcap" else path) as opened:
        try:
            for _ in opened:
                count += 1
        except SourceError:
            assert count
    return count


def rows_in(path: Path) -> int:
    from rerun.chunk import RrdReader

    return sum(chunk.num_rows for chunk in RrdReader(path).stream() if chunk.entity_path == "/noise/mask")


def lines_in(path: Path) -> int:
    return len([json.loads(line) for line in path.read_text().splitlines()])


@pytest.mark.parametrize(
    ("suffix", "read"),
    [("mp4", frames_in), ("mkv", frames_in), ("mcap", frames_in), ("jsonl", lines_in), ("rrd", rows_in)],
)
def test_a_camera_s_recording_is_kept(
    tmp_path: Path, segmenter: Segmenter, suffix: str, read: Callable[[Path], int]
) -> None:
    with small_disk(tmp_path / "disk", size_kb(f"out.{suffix}")) as disk:
        message, count = fill(f"{disk}/out.{suffix}", source(live=True), segmenter)
        kept = disk / f"out-unfinished.{suffix}"
        assert f"what came before is in {kept}" in message
        assert list(disk.iterdir()) == [kept]
        assert read(kept) >= 0.3 * count


@pytest.mark.parametrize("suffix", ["mp4", "mcap", "rrd", "jsonl"])
def test_parts_that_were_finished_are_kept(tmp_path: Path, segmenter: Segmenter, suffix: str) -> None:
    with small_disk(tmp_path / "disk", size_kb(f"out.{suffix}")) as disk:
        message, _ = fill(f"{disk}/out.{suffix}?segment=0.5", source(live=False), segmenter)
        left = sorted(disk.iterdir(), key=lambda path: path.stat().st_mtime_ns)
        assert left
        assert f"kept: {', '.join(map(str, left))}" in message
        read = {"rrd": rows_in, "jsonl": lines_in}.get(suffix, frames_in)
        assert [read(path) for path in left] == [5] * len(left)
