"""Frames that a program makes itself: lists, generators, functions, batches."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from program_frames import WAIT_S, OnGpu, image, in_thread

from pixelrt.errors import SourceError
from pixelrt.testing import fake_segmenter
from pixelrt.video.events import Event
from pixelrt.video.run import run
from pixelrt.video.sources import Frame, IteratorSource, PushSource, Source, as_source, open_source


class OnHost:
    """One image of another library."""

    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        self._pixels, self.ndim, self.dtype, self.shape = pixels, pixels.ndim, pixels.dtype, pixels.shape

    def __iter__(self) -> Iterator[Any]:
        return iter(self._pixels)


@pytest.mark.parametrize(
    "make",
    [
        lambda: [image(value) for value in range(3)],
        lambda: (image(value) for value in range(3)),
        lambda: np.stack([image(value) for value in range(3)]),
        lambda: lambda_generator,
        lambda: iter([image(value) for value in range(3)]).__next__,
    ],
    ids=["list", "generator", "batch", "generator function", "function"],
)
def test_all_that_gives_images(make: Callable[[], Any]) -> None:
    with as_source(make(), fps=10) as source:
        assert source.size == (6, 8)
        assert not source.live
        frames = list(source)
    assert [frame.image[0, 0, 0] for frame in frames] == [0, 1, 2]
    assert [frame.index for frame in frames] == [0, 1, 2]
    assert [frame.time_s for frame in frames] == pytest.approx([0, 0.1, 0.2])
    assert [frame.name for frame in frames] == ["frames-000000", "frames-000001", "frames-000002"]
    assert {frame.source for frame in frames} == {"frames"}
    assert frames[0].captured_s <= frames[1].captured_s <= frames[2].captured_s <= time.monotonic()


def lambda_generator() -> Iterator[NDArray[np.uint8]]:
    yield from (image(value) for value in range(3))


def test_how_many_there_are_is_known_where_the_program_knows() -> None:
    assert as_source([image()] * 3).num_frames == 3
    assert as_source(np.zeros((5, 6, 8, 3), np.uint8)).num_frames == 5
    assert as_source(image() for _ in range(3)).num_frames is None


def test_memory_that_the_program_uses_again() -> None:
    def film() -> Iterator[NDArray[np.uint8]]:
        canvas = image()
        for value in range(4):
            canvas[:] = value
            yield canvas

    assert [frame.image.max() for frame in list(as_source(film()))] == [0, 1, 2, 3]
    kept = image()
    assert next(iter(IteratorSource([kept], copy=False))).image is kept


def test_what_is_not_contiguous_becomes_so() -> None:
    for copy in (True, False):
        frame = next(iter(IteratorSource([image()[:, ::-1]], copy=copy)))
        assert frame.image.flags.c_contiguous


def test_frames_keep_what_the_program_knows() -> None:
    def frame(index: int, captured_s: float) -> Frame:
        labels = np.zeros((6, 8), np.uint8)
        return Frame(
            image=image(),
            index=index,
            time_s=index * 0.5,
            name=f"left{index}",
            truth=labels,
            captured_s=captured_s,
            clock_s=1e9 + index,
            color="bgr",
        )

    source = IteratorSource([frame(7, 1.0), frame(9, 1.5)], name="left")
    first, second = list(source)
    assert [first.index, second.index] == [0, 1], "places among the frames that came, without gaps"
    assert [first.name, second.name] == ["left7", "left9"]
    assert (first.captured_s, first.clock_s, first.color, first.source) == (1.0, 1e9 + 7, "bgr", "left")
    assert second.truth is not None
    with pytest.raises(SourceError, match=r"frame 1 of left was captured at 1\.0\d* s, before the frame bef"):
        list(IteratorSource([frame(0, 1.5), frame(1, 1.0)], name="left"))


def film(tmp_path: Path, name: str) -> Source:
    """Three frames in a file, opened."""
    with av.open(f"{tmp_path}/{name}", "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.height, stream.width, stream.pix_fmt = 64, 96, "yuv420p"
        for value in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image(value, (64, 96)), format="rgb24")))
        container.mux(stream.encode(None))
    return open_source(tmp_path / name)


def mirrored(source: Source) -> Iterator[Frame]:
    """What a program makes of another source's frames, with their names."""
    for frame in source:
        yield dataclasses.replace(frame, image=np.ascontiguousarray(frame.image[:, ::-1]))


def test_each_of_several_filtered_films_has_its_own_film(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    sinks = [f"{tmp_path}/out/{{source}}.mp4", f"{tmp_path}/out.jsonl"]
    with (
        film(tmp_path, "a.mp4") as first,
        film(tmp_path, "b.mp4") as second,
        fake_segmenter(lambda frame: frame[..., 0] // 200) as segmenter,
    ):
        stream = segmenter.stream([mirrored(first), mirrored(second)], sinks=sinks)
        frames = [frame for frame, _ in stream]
    names = ["frames", "frames-2"]
    assert sorted(frame.source for frame in frames) == [name for name in names for _ in range(3)]
    assert len({frame.name for frame in frames}) == 6
    for name in names:
        with open_source(tmp_path / "out" / f"{name}.mp4") as written:
            assert len(list(written)) == 3
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert {line["source"] for line in lines if "source" in line} == set(names)


def test_a_run_over_a_filtered_film(tmp_path: Path) -> None:
    with film(tmp_path, "a.mp4") as source, fake_segmenter(lambda frame: frame[..., 0] // 200) as segmenter:
        report = run(segmenter, IteratorSource(mirrored(source)))
    assert [(each.name, each.frames) for each in report.sources] == [("frames", 3)]


def test_a_live_iterable_is_timed_as_it_comes() -> None:
    def camera() -> Iterator[NDArray[np.uint8]]:
        yield image()
        time.sleep(0.02)
        yield image()

    source = as_source(camera(), live=True)
    assert source.live
    first, second = list(source)
    assert first.time_s == 0
    assert second.time_s >= 0.02
    assert second.time_s == pytest.approx(second.captured_s - first.captured_s)


def test_a_gpu_frame_stays_where_it_is() -> None:
    array = OnGpu(6, 8, 3)
    source = as_source([array, array])
    assert source.size == (6, 8)
    assert all(frame.image is array for frame in source)


def test_a_host_array_of_another_library() -> None:
    import torch

    tensor = torch.full((6, 8, 3), 7, dtype=torch.uint8)
    frame = next(iter(as_source([tensor])))
    assert isinstance(frame.image, np.ndarray)
    assert frame.image.max() == 7


def test_a_change_of_size_is_an_event() -> None:
    events: list[Event] = []
    source = as_source([image(), image(size=(4, 4)), image(size=(4, 4))])
    source.on_event = events.append
    assert [frame.size for frame in source] == [(6, 8), (4, 4), (4, 4)]
    assert [(event.kind, event.detail) for event in events] == [
        ("resized", "frames are 4x4 now, they were 6x8")
    ]


def test_an_error_of_the_program_is_the_program_s() -> None:
    def film() -> Iterator[NDArray[np.uint8]]:
        yield image()
        raise ZeroDivisionError("mine")

    source, frames = as_source(film()), []
    with pytest.raises(ZeroDivisionError, match="mine") as caught:
        frames.extend(source)
    assert caught.traceback[-1].name == "film"


def test_closing_ends_the_generator() -> None:
    ended = []

    def film() -> Iterator[NDArray[np.uint8]]:
        try:
            while True:
                yield image()
        finally:
            ended.append(True)

    source = as_source(film())
    assert next(iter(source)).index == 0
    source.close()
    source.close()
    assert ended == [True]
    assert list(source) == []


def test_an_interrupted_iterable_takes_no_more_items() -> None:
    taken = []

    def film() -> Iterator[NDArray[np.uint8]]:
        for value in range(100):
            taken.append(value)
            yield image(value)

    source = as_source(film())
    for frame in source:
        if frame.index == 4:
            in_thread(source.interrupt).result(timeout=WAIT_S)
    assert taken == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("what", "message"),
    [
        (None, "got a NoneType; expected an iterable of uint8"),
        (3.5, "got a float; expected an iterable"),
        (cv2.VideoCapture(), "got a VideoCapture; .*; give the stream itself what OpenCV was given"),
        (True, "got a bool; expected an iterable"),
        (-1, "got an int; expected an iterable"),
        (b"drive.mp4", "got a bytes; expected an iterable"),
        ({"front": "a.mp4"}, "got a dict; expected an iterable"),
        ([], "a list gave no frame"),
        ((x for x in ()), "a generator gave no frame"),
        (
            lambda: None,
            "a function returned None, expected .* at the end .* it raises StopIteration",
        ),
        (OnHost(image()), r"got one array uint8\[6, 8, 3\], expected several images"),
        (Image.fromarray(image()), "got an Image; .* np.asarray makes an array of an image"),
        (lambda: iter([image()]), "a function returned a list_iterator; give that to the stream"),
        (image(), r"got one array uint8\[6, 8, 3\], expected several images: .*\[image\] for a single one"),
        ([None], "frame 0 of frames: the frame is None"),
        (iter(["a.png"]), "frame 0 of frames: the frame is a str.*one path for each source"),
        ([(True, image())], r"frame 0 of frames: .*OpenCV's read\(\) gives \(ok, image\): check ok"),
        ([image() / 255], r"frame 0 of frames: the frame is float64\[6, 8, 3\].*\(frame \* 255\)"),
        ([image()[..., 0]], r"frame 0 of frames: the frame is uint8\[6, 8\].*np.repeat"),
        ([np.zeros((6, 8, 4), np.uint8)], r"without its alpha channel"),
        ([np.zeros((0, 8, 3), np.uint8)], "the frame is empty"),
        ([OnGpu(3, 6, 8)], r"the array on the GPU has the shape \[3, 6, 8\], expected \[H, W, 3\]"),
    ],
)
def test_what_is_no_source_of_frames(what: object, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        as_source(what)


def test_the_frame_that_is_wrong_is_named() -> None:
    source = as_source([image(), image(), image().astype(np.float32)])
    with pytest.raises(SourceError, match=r"frame 2 of frames: the frame is float32"):
        list(source)


def test_addresses_and_sources_are_sources(tmp_path: Path) -> None:
    assert as_source("test://drive?frames=2&size=96x128").num_frames == 2
    opened = open_source("test://drive?frames=2&size=96x128")
    assert as_source(opened) is opened
    pushed = PushSource()
    assert as_source(pushed) is pushed
    with pytest.raises(SourceError, match="does not exist"):
        as_source(tmp_path / "drive.mp4")
    with pytest.raises(SourceError, match=r"video97"):
        as_source(97)
