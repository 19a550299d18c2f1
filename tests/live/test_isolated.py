"""A stream whose network runs in a child process, on a real bundle."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from live import Camera, check_accounts
from numpy.typing import NDArray

import pixelrt
from pixelrt.bundle import Bundle
from pixelrt.errors import DeviceError
from pixelrt.video.events import Event
from pixelrt.video.frame import Frame

RED, GREEN, BLUE = range(3)


class Colors(Camera):
    """Red, green, blue, red, ..."""

    def frame(self, index: int) -> Frame:
        image: NDArray[np.uint8] = np.zeros((32, 48, 3), np.uint8)
        image[..., index % 3] = 220
        return Frame(image=image, index=index, time_s=0.0, name=f"{index}", source=self.name)


@pytest.fixture(scope="module")
def bundle(make_bundle: Callable[..., Bundle]) -> Bundle:
    return make_bundle()


@pytest.fixture
def segmenter(bundle: Bundle) -> Iterator[pixelrt.IsolatedSegmenter]:
    with pixelrt.isolate(bundle, device="cpu", restarts=2) as isolated:
        yield isolated


def colors_are_right(taken: list[pixelrt.Segmentation], indices: list[int]) -> bool:
    return [int(result.mask[0, 0]) for result in taken if result.mask is not None] == [
        index % 3 for index in indices
    ]


def killable(segmenter: pixelrt.IsolatedSegmenter) -> int:
    """Its child, while no other thread talks to it."""
    assert segmenter.pid is not None
    return segmenter.pid


def test_every_frame_of_a_file(segmenter: pixelrt.IsolatedSegmenter) -> None:
    taken = list(segmenter.stream(Colors(30, live=False)))
    assert [frame.index for frame, _ in taken] == list(range(30))
    assert colors_are_right([result for _, result in taken], list(range(30)))
    assert segmenter(Colors().frame(1).image).mask is not None, "it can be used again"


def test_the_newest_frames_of_cameras(segmenter: pixelrt.IsolatedSegmenter) -> None:
    cameras = [Colors(40, 0.004, name="left"), Colors(40, 0.004, name="right")]
    stream = segmenter.stream(cameras)
    taken = list(stream)
    assert colors_are_right([result for _, result in taken], [frame.index for frame, _ in taken])
    check_accounts(stream.statistics(), taken, cameras=cameras, whole=True)
    assert all(source.delivered for source in stream.statistics().sources)


def test_break(segmenter: pixelrt.IsolatedSegmenter) -> None:
    for frame, _ in segmenter.stream(Colors(None, 0.001)):
        if frame.index >= 3:
            break
    assert segmenter.alive


def test_a_child_that_is_killed_costs_what_was_on_its_way(segmenter: pixelrt.IsolatedSegmenter) -> None:
    events: list[Event] = []
    pid = killable(segmenter)
    stream = segmenter.stream(Colors(60, 0.01), policy="all", on_event=events.append)
    taken = []
    for delivery in stream:
        taken.append(delivery)
        if len(taken) == 10:
            os.kill(pid, signal.SIGKILL)
    assert segmenter.restarts == 1
    assert colors_are_right([result for _, result in taken], [frame.index for frame, _ in taken])
    assert taken[-1].frame.index == 59
    (source,) = stream.statistics().sources
    check_accounts(stream.statistics(), taken, whole=True)
    assert source.captured == 60
    assert 0 <= source.dropped.get("failed", 0) <= segmenter.slots
    skipped = [event for event in events if event.kind == "skipped"]
    assert len(skipped) == source.dropped.get("failed", 0)


def test_without_a_fresh_child_the_stream_ends(bundle: Bundle) -> None:
    with pixelrt.isolate(bundle, device="cpu", restarts=0) as isolated:
        pid = killable(isolated)
        stream = isolated.stream(Colors(None, 0.01))
        next(stream)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(DeviceError, match="no child process"):
            list(stream)
        check_accounts(stream.statistics(), ended=True)


def test_colours_are_those_that_it_was_loaded_for(bundle: Bundle) -> None:
    with pixelrt.isolate(bundle, device="cpu", color="bgr") as isolated:
        assert isolated.color == "bgr"
        ((frame, result),) = isolated.stream([Colors().frame(0).image])
        assert frame.color == "bgr"
        assert result.mask is not None
        assert result.mask[0, 0] == BLUE
