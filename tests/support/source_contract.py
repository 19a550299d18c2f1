"""What every source does, whatever it reads."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice, pairwise
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from pixelrt.manifest import ColorOrder
from pixelrt.video.sources import Frame, Source, open_source

SIZE = (96, 128)
WAIT_S = 30.0


def picture(index: int, size: tuple[int, int] = SIZE) -> NDArray[np.uint8]:
    """A grey that tells the frame, a red corner that tells which way is up, and noise that fills the file."""
    image = np.full((*size, 3), 40 + 5 * index, np.uint8)
    image[40:70] = np.random.default_rng(index).integers(0, 256, (30, size[1], 3))
    image[: size[0] // 4, : size[1] // 4] = (220, 20, 20)
    return image


def held() -> tuple[int, int]:
    """How many file descriptors and threads this process has."""
    gc.collect()
    return len(os.listdir("/proc/self/fd")), threading.active_count()


class SourceContract:
    """What holds for every source. A source without end is looked at for its first `count` frames."""

    size: ClassVar[tuple[int, int]] = SIZE
    count: ClassVar[int] = 12
    truth: ClassVar[bool] = False
    live: ClassVar[bool] = False
    same_again: ClassVar[bool] = True
    """Whether each opening gives the same pixels."""

    @pytest.fixture
    def uri(self, tmp_path: Path) -> str:
        raise NotImplementedError

    def open(self, uri: str, color: ColorOrder = "rgb") -> Source:
        return open_source(uri, color=color)

    def frames(self, source: Source) -> Iterator[Frame]:
        return islice(source, self.count) if source.num_frames is None else iter(source)

    def test_frames_are_rgb_bytes_of_the_promised_size(self, uri: str) -> None:
        with self.open(uri) as source:
            frames = list(self.frames(source))
            assert source.size == self.size
            assert source.fps > 0
            assert source.num_frames in (self.count, None)
        assert len(frames) == self.count
        for frame in frames:
            assert frame.image.dtype == np.uint8
            assert frame.image.shape == (*self.size, 3)
            assert frame.image.flags.c_contiguous

    def test_frames_are_in_order_and_have_names_and_times(self, uri: str) -> None:
        before_s = time.monotonic()
        with self.open(uri) as source:
            frames = list(self.frames(source))
            assert source.live == self.live
        assert [frame.index for frame in frames] == list(range(self.count))
        assert frames[0].time_s == 0
        assert all(earlier.time_s < later.time_s for earlier, later in pairwise(frames))
        assert len({frame.name for frame in frames}) == self.count
        assert not any("/" in frame.name for frame in frames)
        captured = [before_s, *(frame.captured_s for frame in frames), time.monotonic()]
        assert captured == sorted(captured)
        assert {frame.source for frame in frames} == {source.name}

    def test_both_orders_of_the_channels(self, uri: str) -> None:
        with self.open(uri, "rgb") as source:
            rgb = list(self.frames(source))
        with self.open(uri, "bgr") as source:
            bgr = list(self.frames(source))
        assert {frame.color for frame in rgb} == {"rgb"}
        assert {frame.color for frame in bgr} == {"bgr"}
        for one, other in zip(rgb, bgr, strict=True):
            assert other.image.flags.c_contiguous
            if self.same_again:
                np.testing.assert_array_equal(one.image, other.image[..., ::-1])

    def test_truth_has_the_size_of_its_frame(self, uri: str) -> None:
        with self.open(uri) as source:
            for frame in self.frames(source):
                assert (frame.truth is not None) == self.truth
                if frame.truth is not None:
                    assert frame.truth.shape == self.size
                    assert frame.truth.dtype == np.uint8

    def test_a_frame_belongs_to_its_receiver(self, uri: str) -> None:
        with self.open(uri) as source:
            untouched = [frame.image.copy() for frame in self.frames(source)]
        with self.open(uri) as source:
            kept: list[Frame] = []
            for frame, wanted in zip(self.frames(source), untouched, strict=True):
                if self.same_again:
                    np.testing.assert_array_equal(frame.image, wanted)
                kept.append(frame)
                frame.image[:] = 0
            assert not any(frame.image.any() for frame in kept)

    def test_closing_early_and_twice(self, uri: str) -> None:
        source = self.open(uri)
        assert next(iter(source)).index == 0
        source.close()
        source.close()

    def test_what_it_reads_is_named(self, uri: str) -> None:
        with self.open(uri) as source:
            assert all(Path(path).exists() for path in source.paths)
            assert source.name

    def test_another_thread_ends_the_iteration(self, uri: str) -> None:
        with self.open(uri) as source, ThreadPoolExecutor(1) as other:
            frames = iter(source)
            first = next(frames)
            other.submit(source.interrupt).result(timeout=WAIT_S)
            rest = list(frames)
        assert first.index == 0
        assert len(rest) <= 1, "one may have been on its way"

    def test_an_interrupt_before_the_beginning(self, uri: str) -> None:
        with self.open(uri) as source:
            source.interrupt()
            source.interrupt()
            assert len(list(source)) <= 1, "a first frame may have been taken already"
        source.interrupt()

    def test_nothing_is_left(self, uri: str) -> None:
        self._use(uri)  # what libraries keep for ever, they have after this
        before = held()
        for _ in range(3):
            self._use(uri)
        assert held() == before

    def _use(self, uri: str) -> None:
        with self.open(uri) as source:
            next(iter(source))
        with self.open(uri) as source:
            assert len(list(self.frames(source))) == self.count
