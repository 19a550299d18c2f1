"""Folders with a file per image: names, what others wrote, and what killed processes left."""

from __future__ import annotations

import contextlib
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pixelrt.encoding import Draft, ImageFolder, encode_png
from pixelrt.encoding.folder import _Names
from pixelrt.errors import SinkError

Bytes = NDArray[np.uint8]


def image(size: tuple[int, int]) -> Bytes:
    return np.zeros((*size, 3), np.uint8)


class Written(Draft):
    """A file that somebody writes, and never finishes."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        with self.open() as stream:
            stream.write(b"half")

    def close(self) -> None:
        os.close(self._file)


class TestImageFolder:
    """A name is written once in a run, whatever was in the folder before."""

    def test_a_name_is_taken_once(self, tmp_path: Path) -> None:
        ImageFolder(tmp_path).write("front-000002", image((3, 2)))
        names = ["front-000001", "front-000002", "front-0002", "front-2", "front-", "front", "2", "002", "",
                 "front-000012-2", "rear-000002", "front-1000002", "front-00000\u0662"]  # fmt: skip
        folder = ImageFolder(tmp_path)
        for name in reversed(names):
            folder.write(name, image((2, 3)))
        assert len(folder) == len(names) == len(list(tmp_path.iterdir()))
        for name in names:
            with pytest.raises(SinkError, match="written already in this run"):
                folder.write(name, image((2, 3)))
        assert len(folder) == len(names)

    def test_an_image_of_somebody_else_is_not_replaced(self, tmp_path: Path) -> None:
        ImageFolder(tmp_path).write("mine", image((2, 3)))
        theirs = {"photo": encode_png(image((2, 3))), "empty": b"", "text": b"notes" * 50}
        for name, content in theirs.items():
            (tmp_path / f"{name}.png").write_bytes(content)
        folder = ImageFolder(tmp_path)
        for name in theirs:
            with pytest.raises(
                SinkError, match=rf"{name}\.png is there and was not written by PixelRT, so it"
            ):
                folder.write(name, image((4, 5)))
        folder.write("mine", image((4, 5)))
        assert {name: (tmp_path / f"{name}.png").read_bytes() for name in theirs} == theirs
        assert cv2.imread(str(tmp_path / "mine.png")).shape[:2] == (4, 5)

    def test_what_killed_processes_left_is_removed(self, tmp_path: Path) -> None:
        left, empty, fresh, other, strange = (
            tmp_path / f".{name}.tmp" for name in ("0.png.01234567", "1.png.01234567", "2.png.01234567",
                                                   "0.npz.01234567", "0.png.0123456")
        )  # fmt: skip
        for file in (left, other, strange):
            file.write_bytes(b"half")
        for file in (empty, fresh):
            file.touch()
        os.utime(empty, (0, 0))
        with contextlib.closing(Written(tmp_path / "3.png")) as written:
            ImageFolder(tmp_path)
            assert sorted(tmp_path.iterdir()) == sorted([fresh, other, strange, written.hidden])
        ImageFolder(tmp_path)
        assert sorted(tmp_path.iterdir()) == sorted([fresh, other, strange])

    @given(st.lists(st.text("ab-0123456789", max_size=9)))
    def test_any_names(self, names: list[str]) -> None:
        taken: set[str] = set()
        folder = ImageFolder(Path())
        for name in names:
            if name in taken:
                with pytest.raises(SinkError, match="written already"):
                    folder.file(name)
            else:
                assert folder.file(name) == Path(f"{name}.png")
            taken.add(name)
            assert len(folder) == len(taken)

    def test_names_that_count_take_no_memory(self, tmp_path: Path) -> None:
        folder = ImageFolder(tmp_path)
        tracemalloc.start()
        try:
            for index in range(20_000):  # ten minutes
                folder.file(f"front-{index:06d}")
            mine = tracemalloc.Filter(inclusive=True, filename_pattern="*/encoding/folder.py")
            kept = tracemalloc.take_snapshot().filter_traces([mine]).statistics("filename")
        finally:
            tracemalloc.stop()
        assert len(folder) == 20_000
        assert 0 < sum(each.size for each in kept) < 10_000

    @pytest.mark.parametrize(
        "name_of",
        [
            lambda index: f"{index:06d}-of-rear-2",
            lambda index: f"front-{1_764_380_000_000_000_000 + index * 33_366_701}",
            lambda index: f"{index:06d}-left",
            lambda index: f"clip-{index // 7}-{index % 7:04d}",
        ],
    )
    def test_names_that_count_elsewhere_take_no_more_than_a_set(self, name_of: Callable[[int], str]) -> None:
        plain, ours = (kept_bytes(names, name_of) for names in (set[str](), _Names()))
        assert ours < 1.05 * plain

    def test_all_names_are_known_whatever_their_form(self) -> None:
        names = _Names()
        mixed = [f"{form}{index}" for index in range(9_000, 11_000) for form in ("a-", "b-0", f"{index}-")]
        for name in mixed:
            assert name not in names
            names.add(name)
        assert all(name in names for name in mixed)
        assert len(names) == len(mixed) == 6_000


def kept_bytes(names: set[str] | _Names, name_of: Callable[[int], str]) -> int:
    """What 100,000 names take."""
    tracemalloc.start()
    try:
        for index in range(100_000):
            names.add(name_of(index))
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
