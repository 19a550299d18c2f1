"""Ctrl-C where others' code hangs: drivers that are told to stop, sinks that are to finish."""

from __future__ import annotations

import contextlib
import itertools
import logging
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import pytest
from live import Camera, Notes, gone, network

from pixelrt.video.delivery import Delivery
from pixelrt.video.live import StreamView, loop
from pixelrt.video.live.outlets import Outlets
from pixelrt.video.sinks.base import BaseSink

HANGS_S = 20.0
"""So long hangs what is interrupted long before."""


def until(condition: Callable[[], object]) -> None:
    """Wait for it."""
    until_s = time.monotonic() + HANGS_S
    while not condition() and time.monotonic() < until_s:
        time.sleep(0.005)
    assert condition()


def main_is_in(module: str, function: str) -> bool:
    """Whether the main thread runs it, or waits in it."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    while frame is not None:
        if (frame.f_globals.get("__name__"), frame.f_code.co_name) == (module, function):
            return True
        frame = frame.f_back
    return False


@contextlib.contextmanager
def ctrl_c(*moments: Callable[[], object]) -> Iterator[None]:
    """One at each moment, in the block, where the last one raises; a moment that never comes fails here."""
    missed: list[BaseException] = []
    left = threading.Event()

    def press() -> None:
        try:
            for moment in moments:
                until(lambda moment=moment: left.is_set() or moment())
                if not left.is_set():
                    signal.pthread_kill(main, signal.SIGINT)
        except AssertionError as problem:
            missed.append(problem)

    def pressed(number: int, frame: FrameType | None) -> None:
        if not left.is_set():  # one that comes late would end the whole test run
            raise KeyboardInterrupt

    main = threading.main_thread().ident
    assert main is not None
    pressing = threading.Thread(target=press)
    before = signal.signal(signal.SIGINT, pressed)
    try:
        with pytest.raises(KeyboardInterrupt):
            pressing.start()
            try:
                yield
            finally:
                left.set()
                pressing.join()
    finally:
        signal.signal(signal.SIGINT, before)
    assert not missed


class Hanging(Camera):
    """A camera whose driver does not return when it is told to stop."""

    def __init__(self, name: str) -> None:
        super().__init__(period_s=0.01, name=name)
        self.told, self.was_interrupted = threading.Event(), True

    def interrupt(self) -> None:
        if threading.current_thread() is threading.main_thread() and not self.told.is_set():
            self.told.set()
            time.sleep(HANGS_S)
            self.was_interrupted = False


def test_ctrl_c_reaches_a_driver_that_hangs_and_all_others_are_told_to_stop() -> None:
    cameras = [Hanging("one"), Hanging("other")]
    stream = network().stream(cameras)
    next(stream)
    told = [camera.told.is_set for camera in cameras]
    with ctrl_c(lambda: any(is_told() for is_told in told), lambda: all(is_told() for is_told in told)):
        stream.close()
    assert all(camera.was_interrupted for camera in cameras)
    until(gone)
    stream.close()


def test_ctrl_c_reaches_a_sink_that_hangs_when_it_is_given_back() -> None:
    class Stubborn(Notes):
        def abort(self) -> None:
            aborting.set()
            time.sleep(HANGS_S)
            returned.append(True)

    aborting, notes = threading.Event(), Notes()
    returned: list[bool] = []
    stream = network().stream(Camera(1), sinks=[Stubborn(), notes])
    with ctrl_c(aborting.is_set):
        stream.close()
    assert not returned
    assert notes.ends == ["aborted"]


def test_ctrl_c_ends_the_wait_for_a_start_that_hangs_in_another_thread() -> None:
    class Attaching(Notes):
        def attach(self, stream: StreamView) -> None:
            super().attach(stream)
            attaching.set()
            assert connected.wait(HANGS_S)

    attaching, connected, notes = threading.Event(), threading.Event(), Attaching()
    stream = network().stream(Camera(period_s=0.01), sinks=[notes])
    results: list[object] = []
    starting = threading.Thread(target=lambda: results.append(next(stream, None)))
    starting.start()
    until(attaching.is_set)
    with ctrl_c(lambda: main_is_in("pixelrt.video.live.loop", "_discard")):
        stream.close()
    connected.set()
    starting.join()
    assert results == [None], "it was closed before it began"
    assert gone()
    assert notes.ends == ["aborted"]


class Unfinished(BaseSink):
    """A disk that does not answer when a file is finished."""

    def __init__(self) -> None:
        self.answers, self.has_written, self.asked = threading.Event(), threading.Event(), threading.Event()

    def write(self, delivery: Delivery) -> None:
        self.has_written.set()

    def close(self) -> tuple[Path, ...]:
        self.asked.set()
        assert self.answers.wait(60)
        return ()

    def is_waited_for(self) -> bool:
        return self.asked.is_set() and main_is_in("pixelrt.video.live.workers", "wait")


@pytest.mark.parametrize("how", ["for", "run"])
def test_a_second_ctrl_c_ends_the_wait_for_a_sink(how: str, caplog: pytest.LogCaptureFixture) -> None:
    sink = Unfinished()
    stream = network().stream(Camera(period_s=0.01), sinks=[sink])
    with ctrl_c(sink.has_written.is_set, sink.is_waited_for):
        stream.run() if how == "run" else list(stream)
    with caplog.at_level(logging.WARNING):
        stream.close()
    assert not sink.answers.is_set() and not gone(), "it waits for the sink still"
    assert caplog.messages == ["not waited for any longer (Ctrl-C): pixelrt sink Unfinished"]
    sink.answers.set()
    until(gone)


@pytest.fixture
def pressed_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C comes while everything is told to stop: the second one, where the first led to that."""
    stops, stop = itertools.count(1), Outlets.stop

    def pressing(self: Outlets) -> None:
        stop(self)
        if next(stops) == 1:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Outlets, "stop", pressing)


@pytest.mark.usefixtures("pressed_twice")
def test_a_second_ctrl_c_ends_the_wait_also_where_it_comes_before_that() -> None:
    sink = Unfinished()
    stream = network().stream(Camera(period_s=0.01), sinks=[sink])
    with ctrl_c(sink.has_written.is_set):
        list(stream)
    assert not sink.answers.is_set() and not gone(), "it waits for the sink still"
    stream.close()
    sink.answers.set()
    until(gone)


@pytest.mark.usefixtures("pressed_twice")
def test_what_ends_at_once_is_waited_for_even_then(monkeypatch: pytest.MonkeyPatch) -> None:
    class Quick(Unfinished):
        def close(self) -> tuple[Path, ...]:
            time.sleep(0.1)
            return ()

    monkeypatch.setattr(loop, "_GRACE_S", HANGS_S)
    sink = Quick()
    stream = network().stream(Camera(period_s=0.01), sinks=[sink])
    with ctrl_c(sink.has_written.is_set):
        list(stream)
    assert gone()
