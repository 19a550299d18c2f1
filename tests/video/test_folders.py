"""Folders of masks and arrays in which something is already."""

from __future__ import annotations

import struct
import subprocess
import zlib
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from disks import small_disk
from drives import SIZE, feed, picture, results, see

from pixelrt.errors import SinkError
from pixelrt.segmentation import Segmenter
from pixelrt.video.sinks import open_sink
from pixelrt.video.sources import IteratorSource, Source

FOLDERS = [("masks", ".png"), ("results.npz", ".npz")]


@pytest.fixture
def segmenter() -> Iterator[Segmenter]:
    with see() as made:
        yield made


def source(*, live: bool = False) -> Source:
    return IteratorSource([picture(0)], name="film", fps=10, live=live)


def record(uri: str, segmenter: Segmenter, *, first: int = 0, live: bool = False) -> Path:
    with source(live=live) as opened, open_sink(uri, opened) as sink:
        feed(sink, results(segmenter, 3, first=first))
        (path,) = sink.close()
    return path


@pytest.mark.parametrize(("name", "suffix"), FOLDERS)
def test_what_an_earlier_run_left_is_told(
    tmp_path: Path, segmenter: Segmenter, name: str, suffix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    record(f"{tmp_path}/{name}/", segmenter)
    (tmp_path / name / "notes.txt").touch()
    assert capsys.readouterr().err == ""
    record(f"{tmp_path}/{name}/", segmenter, first=2)
    other = name.replace("masks", "masks-{time}").replace("results", "results-{time}")
    assert capsys.readouterr().err == (
        f"{tmp_path}/{name}/ holds {suffix} files already (3): this run replaces those of its frames' "
        f"names that PixelRT wrote, and the others stay; for this run alone give {tmp_path}/{other}/\n"
    )
    assert len(list((tmp_path / name).glob(f"*{suffix}"))) == 5
    alone = record(f"{tmp_path}/{other}/", segmenter)
    assert alone.suffix == Path(name).suffix
    assert len(list(alone.iterdir())) == 3
    assert capsys.readouterr().err == ""


def test_labels_and_photographs_are_not_replaced(tmp_path: Path, segmenter: Segmenter) -> None:
    (tmp_path / "labels").mkdir()
    label = tmp_path / "labels/front-000001.png"
    cv2.imwrite(str(label), picture(7)[..., 0])
    before = label.read_bytes()
    with pytest.raises(SinkError, match=r"front-000001\.png is there and was not written by PixelRT"):
        record(f"{tmp_path}/labels/", segmenter)
    assert label.read_bytes() == before


@pytest.mark.parametrize("theirs", ["arrays", "text"])
def test_arrays_of_somebody_else_are_not_replaced(tmp_path: Path, segmenter: Segmenter, theirs: str) -> None:
    file = record(f"{tmp_path}/results.npz/", segmenter) / "front-000001.npz"
    if theirs == "arrays":
        np.savez(file, mask=picture(7), index=1)
    else:
        file.write_text("notes")
    before = file.read_bytes()
    with pytest.raises(SinkError, match=r"front-000001\.npz is there and was not written by PixelRT"):
        record(f"{tmp_path}/results.npz/", segmenter)
    assert file.read_bytes() == before


@pytest.mark.parametrize(("name", "suffix"), FOLDERS)
def test_what_cannot_be_read_is_not_replaced(
    tmp_path: Path, segmenter: Segmenter, name: str, suffix: str
) -> None:
    (tmp_path / name / f"front-000001{suffix}").mkdir(parents=True)
    why = r"is there and cannot be read \(Is a directory\), so it is not replaced; choose another folder, or"
    with pytest.raises(SinkError, match=rf"front-000001\{suffix} {why} move it away$"):
        record(f"{tmp_path}/{name}/", segmenter)


@pytest.mark.parametrize(("name", "suffix"), FOLDERS)
def test_a_camera_s_folder_that_nobody_may_look_into(
    tmp_path: Path, segmenter: Segmenter, name: str, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> Iterator[Path]:
        if path == tmp_path / name:
            raise PermissionError(13, "Permission denied")
        return listed(path)

    listed = Path.iterdir
    (tmp_path / name).mkdir()
    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(SinkError, match=rf"{name} cannot be looked into \(Permission denied\)"):
        record(f"{tmp_path}/{name}/", segmenter, live=True)


def test_masks_say_who_wrote_them(tmp_path: Path, segmenter: Segmenter) -> None:
    """In a chunk that every reader passes over."""
    file = record(f"{tmp_path}/masks/", segmenter) / "front-000001.png"
    content, at, kinds = file.read_bytes(), 8, []
    while at < len(content):
        (length,) = struct.unpack_from(">I", content, at)
        at += 4
        (checksum,) = struct.unpack_from(">I", content, at + 4 + length)
        assert zlib.crc32(content[at : at + 4 + length]) == checksum
        kinds.append(content[at : at + 4])
        at += 8 + length
    assert (kinds[:2], kinds[-1]) == ([b"IHDR", b"tEXt"], b"IEND")
    assert cv2.imread(str(file), cv2.IMREAD_UNCHANGED).shape == SIZE


@pytest.mark.parametrize(("name", "suffix"), FOLDERS)
def test_what_a_killed_run_left_half_written_goes(
    tmp_path: Path, segmenter: Segmenter, name: str, suffix: str
) -> None:
    """Of a camera from the folder of its last run; one in which nothing else is, is empty."""
    first, last = tmp_path / name, (tmp_path / name).with_stem(f"{Path(name).stem}-7")
    first.mkdir()
    (first / f".0{suffix}.0123abcd.tmp").write_bytes(b"half")
    assert record(f"{tmp_path}/{name}/", segmenter, live=True) == first
    assert len(list(first.iterdir())) == 3
    last.mkdir()
    (last / f"0{suffix}").touch()
    (last / f".1{suffix}.0123abcd.tmp").write_bytes(b"half")
    assert record(f"{tmp_path}/{name}/", segmenter, live=True).stem.endswith("-8")
    assert [file.name for file in last.iterdir()] == [f"0{suffix}"]
    (first / f".0{suffix}.0123abcd.tmp").write_bytes(b"half")
    record(f"{tmp_path}/{name}/", segmenter)
    assert len(list(first.iterdir())) == 3


@pytest.mark.parametrize(
    ("name", "second"),
    [
        ("127.0.0.1-8554-live-masks", "127.0.0.1-8554-live-masks-2"),
        ("run-1.5", "run-1.5-2"),
        ("run-1.5.npz", "run-1.5-2.npz"),
    ],
)
def test_a_folder_with_dots_in_its_name_is_numbered_at_its_end(
    tmp_path: Path, segmenter: Segmenter, name: str, second: str
) -> None:
    """Before `.npz`, which says what is in it."""
    for expected in (name, second, second.replace("-2", "-3")):
        assert record(f"{tmp_path}/{name}/", segmenter, live=True) == tmp_path / expected


@pytest.mark.parametrize("name", ["masks", "results.npz"])
def test_a_new_folder_into_which_nothing_came_is_not_there(tmp_path: Path, name: str) -> None:
    with source() as opened, open_sink(f"{tmp_path}/{name}/", opened) as sink:
        assert sink.close() == ()
    assert not list(tmp_path.iterdir())
    (tmp_path / name).mkdir()
    with source() as opened, open_sink(f"{tmp_path}/{name}/", opened) as sink:
        assert sink.close() == (tmp_path / name,)


def test_a_file_system_that_is_read_only_is_called_so(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 100) as disk, source() as opened:
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        for target in ("masks/", "out.jsonl"):
            with pytest.raises(SinkError, match=f"the file system of {disk} is read-only; choose another"):
                open_sink(f"{disk}/{target}", opened)
