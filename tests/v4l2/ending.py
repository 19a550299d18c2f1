"""How reading the emulated camera ends: interrupts, silence, a cable that is pulled and comes back.

test_camera.py in tests/video runs this in a process of its own: no other test may see a camera that is none.
"""

from __future__ import annotations

import errno
import re
import time
from itertools import pairwise

import numpy as np
import pytest
from emulated_camera import (
    PATH,
    SIZE,
    WAIT_S,
    camera,  # noqa: F401 - used by all
    configure,
    count,
    emulator,
    first,
    in_thread,
    jpeg,
    luma,
    uri,
)

from pixelrt.errors import SourceError, SourceStalled, UnusableSource
from pixelrt.video.events import Event
from pixelrt.video.frame import Frame
from pixelrt.video.sources import open_source


def test_an_interrupt_ends_a_wait() -> None:
    configure(stall_at=2)
    with open_source(uri(stall=WAIT_S * 2)) as source:
        read = in_thread(lambda: list(source))
        time.sleep(0.1)
        began_s = time.monotonic()
        source.interrupt()
        assert len(read.result(timeout=WAIT_S)) == 2
        assert time.monotonic() - began_s < 5
    source.interrupt()


def test_closing_early_and_twice() -> None:
    source = open_source(uri())
    frames = iter(source)
    next(frames)
    source.close()
    source.close()
    source.interrupt()
    assert list(frames) == []
    with open_source(uri()) as again:
        assert len(first(again, 2)) == 2


def test_closing_without_a_look() -> None:
    open_source(uri()).close()


def test_a_camera_that_falls_silent() -> None:
    configure(stall_at=3)
    frames: list[Frame] = []
    with (
        open_source(uri(stall=0.3, reconnect="no")) as source,
        pytest.raises(SourceError, match=rf"{PATH} gave no picture for 0\.3 s, after 3 pictures"),
    ):
        frames.extend(source)
    assert len(frames) == 3


def send(*sizes: tuple[int, int]) -> None:
    """Let it send JPEGs of these sizes in turn, whatever was asked for."""
    emulator.emulator_reset(PATH.encode())
    for number in range(16):
        emulator.emulator_picture(*jpeg(np.full((*sizes[number % len(sizes)], 3), 9, np.uint8)))


def test_a_camera_of_damaged_pictures_alone() -> None:
    """Data come all the time, and never a picture."""
    send((48, 64))
    opened = in_thread(lambda: open_source(uri(format="mjpeg", stall=1)))
    problem = opened.exception(timeout=WAIT_S)
    assert isinstance(problem, SourceStalled)
    assert re.match(
        rf"{PATH}: data come, and no whole picture for 1 s, after 0 pictures: \d+ damaged, the last one "
        r"because a JPEG is 48x64, expected 96x128; look at its cable, or ask for another format",
        str(problem),
    )


def test_a_camera_that_falls_silent_after_a_damaged_picture() -> None:
    configure(cut_at=3, stall_at=4)
    frames: list[Frame] = []
    with (
        open_source(uri(format="yuyv", stall=0.5, reconnect="no")) as source,
        pytest.raises(SourceStalled, match=rf"{PATH} gave no picture for 0\.5 s, after 3 pictures"),
    ):
        frames.extend(source)
    assert source.losses == {"damaged": 1}


def test_a_slow_reader_is_no_stall() -> None:
    send((48, 64), (48, 64), SIZE)
    with open_source(uri(format="mjpeg", stall=0.5, reconnect="no")) as source:
        frames = []
        for frame in source:
            frames.append(frame)
            if len(frames) == 4:
                break
            time.sleep(0.6)
        source.close()
    assert [frame.index for frame in frames] == [0, 1, 2, 3]


def test_a_camera_that_is_unplugged() -> None:
    configure(unplug_at=4)
    frames: list[Frame] = []
    with (
        open_source(uri(reconnect="no")) as source,
        pytest.raises(SourceError, match=rf"{PATH} is gone: it was unplugged.* \(after \d pictures\)"),
    ):
        frames.extend(source)
    assert len(frames) <= 4


def test_the_last_picture_of_a_camera_that_is_unplugged_is_whole() -> None:
    """It goes away when its picture has been read, and takes no buffer any more."""
    configure(pull_at=4)
    frames: list[Frame] = []
    with (
        open_source(uri(format="yuyv", reconnect="no")) as source,
        pytest.raises(
            SourceError, match=rf"{PATH} is gone: it was unplugged.* \(after \d+ pictures\)"
        ) as told,
    ):
        frames.extend(source)
    assert f"(after {len(frames)} pictures)" in str(told.value)
    last = len(frames) - 1 + sum(source.losses.values())
    assert last >= 4
    assert frames[-1].image[60, 60] == pytest.approx(luma(last), abs=2)


def test_a_camera_that_fails() -> None:
    configure(dequeue_errno=errno.EIO)
    with pytest.raises(SourceError, match=r"failed \(input/output error\): look at its cable"):
        open_source(uri())


def test_a_camera_that_comes_back() -> None:
    configure(unplug_at=4, away=2)
    events: list[Event] = []
    with open_source(uri(format="yuyv")) as source:
        source.on_event = events.append
        frames = first(source, 10)
    assert count("opened") == 2
    assert [frame.index for frame in frames] == list(range(10))
    times = [frame.captured_s for frame in frames]
    assert times == sorted(times)
    assert all(earlier.time_s < later.time_s for earlier, later in pairwise(frames))
    assert {frame.source for frame in frames} == {"camera31"}
    assert [event.kind for event in events] == [
        "connected",
        "lost",
        "reconnecting",
        "reconnecting",
        "reconnecting",
        "connected",
    ]
    assert "it was unplugged" in events[1].detail
    assert "does not exist" in events[3].detail


def test_a_silent_camera_is_opened_again() -> None:
    configure(stall_at=4)
    events: list[Event] = []
    with open_source(uri(stall=0.2)) as source:
        source.on_event = events.append
        assert len(first(source, 10)) == 10
    assert [event.kind for event in events].count("stalled") == 2
    assert count("opened") == 3


def test_an_interrupt_ends_the_wait_for_a_camera() -> None:
    configure(unplug_at=2, away=1_000_000)
    with open_source(uri()) as source:
        read = in_thread(lambda: list(source))
        time.sleep(0.3)
        source.interrupt()
        assert len(read.result(timeout=WAIT_S)) <= 2


def test_a_camera_is_waited_for() -> None:
    configure(busy=1)
    with open_source(uri(wait="yes")) as source:
        read = in_thread(lambda: first(source, 2))
        time.sleep(0.2)
        assert not read.done()
        configure(busy=0)
        assert len(read.result(timeout=WAIT_S)) == 2
    with (
        open_source(uri(wait="yes", format="jpeg")) as source,
        pytest.raises(UnusableSource, match="cannot give jpeg"),
    ):
        next(iter(source))


def test_what_waited_while_the_reader_was_away_is_old() -> None:
    """The first picture is taken to see that the camera works; the reader may need long to begin."""
    with open_source(uri(fps=100, format="yuyv")) as source:
        time.sleep(0.5)
        began_s = time.monotonic()
        frames = first(source, 3)
        assert source.losses["early"] >= 20
        assert source.losses.get("driver", 0) <= 3
    assert all(frame.captured_s >= began_s - 0.02 for frame in frames)
    assert [frame.index for frame in frames] == [0, 1, 2]
