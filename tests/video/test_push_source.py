"""Frames that a program hands over when it has them, as a camera's own callback does."""

from __future__ import annotations

import itertools
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from program_frames import WAIT_S, OnGpu, image, in_thread
from session_contract import on_gpu

from pixelrt.errors import DeviceError, SourceError
from pixelrt.testing import FakeCuda, fake_segmenter
from pixelrt.video.events import Event
from pixelrt.video.sources import Frame, PushSource, open_source


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


def test_an_order_of_channels_that_there_is_not() -> None:
    with pytest.raises(SourceError, match=r"color is 'brg', expected 'rgb' or 'bgr'"):
        PushSource(color="brg")  # type: ignore[arg-type]


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


def test_a_refused_first_frame_leaves_no_trace() -> None:
    source = PushSource(keep="all", capacity=2)
    with pytest.raises(SourceError, match=r"expected a time of that clock"):
        source.push(image(0), captured_s=time.time())
    assert source.push(image(1))
    source.end()
    assert [frame.time_s for frame in source] == [0.0]


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
    assert [event.detail for event in events] == ["frames are 4x4 now, they were 6x8"]


def test_each_source_of_pushed_frames_has_its_own_film(tmp_path: Path) -> None:
    """Whatever source the frames say that they are from."""
    said = {"left": "", "right": "front.mp4"}
    sources = [PushSource(name=name, keep="all", capacity=3) for name in said]
    for source in sources:
        for index in range(3):
            frame = Frame(
                image=image(size=(64, 96)), index=index, time_s=index / 25, name="", source=said[source.name]
            )
            source.push(frame)
        source.end()
    with fake_segmenter(lambda frame: frame[..., 0]) as segmenter:
        stream = segmenter.stream(sources, policy="all", sinks=[f"{tmp_path}/{{source}}.mp4"])
        frames = [frame for frame, _ in stream]
    assert sorted(frame.source for frame in frames) == ["left"] * 3 + ["right"] * 3
    for name in said:
        with open_source(tmp_path / f"{name}.mp4") as film:
            assert len(list(film)) == 3


def test_a_pushed_frame_of_no_source_is_of_this_one() -> None:
    source = PushSource(name="front", keep="all", capacity=2)
    for name in ("", "elsewhere"):
        source.push(Frame(image=image(), index=0, time_s=0.0, name="", source=name))
    source.end()
    assert [frame.source for frame in source] == ["front", "elsewhere"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"capacity": 0}, "capacity is 0, expected at least 1"),
        ({"keep": "latest"}, "keep is 'latest', expected 'newest' or 'all'"),
        ({"fps": 0}, "expected 0.01 to 1000"),
        ({"name": 3}, "name is 3, expected a text"),
        ({"name": ""}, "name is '', expected a text"),
        ({"name": "front\n"}, r"name is 'front\\n', expected a text"),
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


@pytest.mark.parametrize("name", ["captured_s", "clock_s"])
def test_times_are_numbers(name: str) -> None:
    source = PushSource()
    with pytest.raises(SourceError, match=f"frame 0 of pushed: {name} is a str, expected seconds"):
        source.push(image(), **{name: "now"})
    source.push(image(), **{name: np.float32(1)})


def test_a_topic_is_a_name_whose_frames_have_masks(tmp_path: Path) -> None:
    sources = [PushSource(name="/front/image_raw", keep="all") for _ in range(2)]
    for source in sources:
        source.push(image())
        source.end()
    stream = fake_segmenter(lambda frame: frame[..., 0], size=(6, 8)).stream(
        sources, sinks=[f"{tmp_path}/{{source}}/"]
    )
    assert {frame.source for frame, _ in stream} == {"/front/image_raw", "/front/image_raw-2"}
    assert sorted(path.name for path in tmp_path.glob("*/*.png")) == [
        "front-image_raw-000000.png",
        "front-image_raw-2-000000.png",
    ]


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


def test_ctrl_c_in_a_push_that_waits_is_a_keyboard_interrupt() -> None:
    for moment in itertools.count(1):
        source, left = PushSource(keep="all", capacity=1), moment

        def interrupt(_: object, event: str, __: object) -> None:
            nonlocal left
            left -= event in ("call", "c_return")
            if not left:
                sys.setprofile(None)
                raise KeyboardInterrupt

        source.push(image())
        reader = threading.Timer(0.002, source.interrupt)
        reader.start()
        sys.setprofile(interrupt)
        try:
            source.push(image())
        except KeyboardInterrupt:
            pass
        finally:
            sys.setprofile(None)
        reader.join()
        if left > 0:
            break
    assert moment > 10
