"""Frames that a program makes itself: lists, generators, functions, callbacks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from session_contract import on_gpu

from pixelrt.errors import DeviceError, SourceError
from pixelrt.testing import FakeCuda, fake_segmenter
from pixelrt.video.events import Event
from pixelrt.video.sources import Frame, IteratorSource, PushSource, as_source, open_source

WAIT_S = 30.0


def image(value: int = 0, size: tuple[int, int] = (6, 8)) -> NDArray[np.uint8]:
    return np.full((*size, 3), value, np.uint8)


class OnGpu:
    """What an array of another library on a GPU looks like; nothing here may look at its pixels."""

    def __init__(self, *shape: int) -> None:
        self.shape = shape
        self.__cuda_array_interface__ = {
            "shape": shape,
            "typestr": "|u1",
            "data": (256, False),
            "version": 3,
        }


def in_thread(work: Callable[[], Any]) -> Future[Any]:
    """Starts `work` in a thread that ends with it."""
    executor = ThreadPoolExecutor(1)
    future = executor.submit(work)
    executor.shutdown(wait=False)
    return future


# Iterables


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


def test_gpu_frames_go_through_a_stream() -> None:
    segmenter = fake_segmenter(lambda frame: frame[..., 0] // 200, size=(64, 96), cuda=FakeCuda())
    light = np.full((64, 96, 3), 200, np.uint8)
    with segmenter, on_gpu(segmenter, light) as lit, on_gpu(segmenter, light // 4) as dark:
        source = PushSource(keep="all", capacity=3)
        for frame in (lit, dark, lit):
            source.push(frame)
        source.end()
        means = [int(result.mask.max()) for _, result in segmenter.stream(source, policy="all")]
    assert means == [1, 0, 1]


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
    assert [(event.kind, event.detail) for event in events] == [("resized", "6x8 became 4x4 at frame 1")]


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
        (-1, "got a int; expected an iterable"),
        (b"drive.mp4", "got a bytes; expected an iterable"),
        ({"front": "a.mp4"}, "got a dict; expected an iterable"),
        ([], "a list gave no frame"),
        ((x for x in ()), "a generator gave no frame"),
        (lambda: None, "frame 0 of frames: the frame is None, .*did the camera or the file fail"),
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


# Callbacks


def test_frames_that_are_pushed() -> None:
    source = PushSource(name="front", fps=30, color="bgr", keep="all", capacity=3)
    assert source.live
    assert source.size == (0, 0)
    taken_s = time.monotonic()
    for value in range(3):
        assert source.push(image(value), captured_s=taken_s + value * 1e-3, clock_s=5e8 + value)
    source.end()
    frames = list(source)
    assert source.size == (6, 8)
    assert [frame.index for frame in frames] == [0, 1, 2]
    assert [frame.name for frame in frames] == ["front-000000", "front-000001", "front-000002"]
    assert [frame.time_s for frame in frames] == pytest.approx([0, 1e-3, 2e-3])
    assert [frame.clock_s for frame in frames] == [5e8, 5e8 + 1, 5e8 + 2]
    assert {(frame.color, frame.source) for frame in frames} == {("bgr", "front")}
    assert source.losses == {}


def test_the_newest_wins_and_the_others_are_counted() -> None:
    source = PushSource(capacity=2)
    for value in range(10):
        source.push(image(value))
    source.end()
    frames = list(source)
    assert [frame.image.max() for frame in frames] == [8, 9]
    assert [frame.index for frame in frames] == [0, 1], "lost frames have no index"
    assert source.losses == {"replaced": 8}


def test_all_frames_wait_for_the_reader() -> None:
    source = PushSource(keep="all", capacity=1)

    def produce() -> None:
        for value in range(50):
            source.push(image(value))
        source.end()

    produced = in_thread(produce)
    seen = []
    for frame in source:
        seen.append(int(frame.image.max()))
        assert len(source._waiting) <= 1
    assert seen == list(range(50))
    assert produced.result(timeout=WAIT_S) is None
    assert source.losses == {}


def test_the_camera_may_use_its_memory_again() -> None:
    buffer = image(5)
    source = PushSource()
    source.push(buffer)
    buffer[:] = 9
    source.end()
    assert next(iter(source)).image.max() == 5
    lent = PushSource(copy=False)
    lent.push(buffer)
    assert next(iter(lent)).image is buffer


def test_a_pushed_frame_has_its_own_times() -> None:
    frame = Frame(image=image(), index=40, time_s=2.0, name="left40", captured_s=3.0, clock_s=4.0)
    source = PushSource()
    source.push(frame)
    source.push(OnGpu(6, 8, 3))
    with pytest.raises(SourceError, match="is a Frame, which has its own times"):
        source.push(frame, captured_s=1.0)
    source.end()
    first, second = list(source)
    assert (first.index, first.name, first.time_s, first.captured_s, first.clock_s) == (
        0,
        "left40",
        2.0,
        3.0,
        4.0,
    )
    assert isinstance(second.image, OnGpu)


def test_times_of_another_clock_are_refused() -> None:
    source = PushSource(name="front")
    with pytest.raises(SourceError, match=r"front was captured at .*time\.monotonic\(\) says .*clock"):
        source.push(image(), captured_s=time.time())
    with pytest.raises(SourceError, match="expected a time of that clock"):
        source.push(image(), captured_s=float("nan"))
    source.push(image(), captured_s=2.0)
    with pytest.raises(SourceError, match=r"frame 1 of front was captured at 1\.0* s, before the frame"):
        source.push(image(), captured_s=1.0)


def test_after_the_end_nothing_may_be_pushed() -> None:
    source = PushSource(name="front")
    source.push(image())
    source.end()
    with pytest.raises(SourceError, match=r"frame 1 of front was pushed after the end: it was ended"):
        source.push(image())
    assert len(list(source)) == 1


def test_a_failure_comes_after_the_frames_before_it() -> None:
    source, frames = PushSource(name="front"), []
    source.push(image())
    source.fail("the cable was pulled")
    source.end()
    with pytest.raises(SourceError, match="front failed: the cable was pulled"):
        frames.extend(source)
    assert len(frames) == 1
    with pytest.raises(SourceError, match="pushed after the end: it failed"):
        source.push(image())


def test_a_failure_keeps_its_cause() -> None:
    source = PushSource(name="front")
    cause = OSError("no such device")
    source.fail(cause)
    with pytest.raises(SourceError, match="front failed: no such device") as caught:
        list(source)
    assert caught.value.__cause__ is cause
    lost = PushSource()
    lost.fail(DeviceError("gone"))
    with pytest.raises(DeviceError, match="gone"):
        list(lost)


def test_an_interrupt_ends_a_reader_that_waits() -> None:
    source = PushSource()
    read = in_thread(lambda: list(source))
    time.sleep(0.05)
    source.interrupt()
    assert read.result(timeout=WAIT_S) == []
    assert source.push(image()) is False, "nobody takes frames any more"
    source.close()
    source.interrupt()


def test_an_interrupt_ends_a_camera_that_waits() -> None:
    source = PushSource(keep="all", capacity=1)
    source.push(image())
    pushed = in_thread(lambda: source.push(image()))
    time.sleep(0.05)
    source.close()
    assert pushed.result(timeout=WAIT_S) is False
    assert source.losses == {"unread": 1}
    assert list(source) == []


def test_the_end_wakes_a_camera_that_waits() -> None:
    source = PushSource(keep="all", capacity=1)
    source.push(image())
    pushed = in_thread(lambda: source.push(image()))
    time.sleep(0.05)
    source.end()
    assert isinstance(pushed.exception(timeout=WAIT_S), SourceError)


def test_many_cameras_push_at_once() -> None:
    source = PushSource(keep="all", capacity=4)

    def produce(value: int) -> None:
        for _ in range(40):
            source.push(image(value))

    results = [in_thread(lambda value=value: produce(value)) for value in range(4)]  # type: ignore[misc]
    read = in_thread(lambda: list(source))
    assert [result.result(timeout=WAIT_S) for result in results] == [None] * 4
    source.end()
    frames = read.result(timeout=WAIT_S)
    assert [frame.index for frame in frames] == list(range(160))
    assert all(frame.image.min() == frame.image.max() for frame in frames)
    times = [frame.captured_s for frame in frames]
    assert times == sorted(times)


def test_a_pushed_change_of_size_is_an_event() -> None:
    events: list[Event] = []
    source = PushSource(size=(6, 8), keep="all", capacity=3)
    source.on_event = events.append
    assert source.size == (6, 8)
    for size in ((6, 8), (4, 4), (4, 4)):
        source.push(image(size=size))
    source.end()
    assert len(list(source)) == 3
    assert [event.detail for event in events] == ["6x8 became 4x4 at frame 1"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"capacity": 0}, "capacity is 0, expected at least 1"),
        ({"keep": "latest"}, "keep is 'latest', expected 'newest' or 'all'"),
        ({"fps": 0}, "expected 0.01 to 1000"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SourceError, match=message):
        PushSource(**options)


def test_what_is_pushed_must_be_a_frame() -> None:
    source = PushSource(name="front")
    source.push(image())
    with pytest.raises(SourceError, match="frame 1 of front: the frame is None"):
        source.push(None)
    with pytest.raises(SourceError, match=r"frame 1 of front: the frame is float64"):
        source.push(np.zeros((6, 8, 3)))
