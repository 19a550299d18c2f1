"""Signals, forks and missing threads at the worst of moments."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from interrupting import Interrupting, handled
from live import SIZE, Camera, Notes, check_accounts, gone, image_of, network
from views import STATISTICS

from pixelrt.errors import InputError, SourceError
from pixelrt.video.frame import Frame
from pixelrt.video.live import Stream, watching
from pixelrt.video.live.interrupting import interrupts_a_lock
from pixelrt.video.live.ledger import Ledger
from pixelrt.video.live.mailbox import Mailbox, Room
from pixelrt.video.live.outlets import Outlets
from pixelrt.video.live.telling import StatisticsLog
from pixelrt.video.live.watching import Monitor, Watchdog
from pixelrt.video.sources.paced import Paced
from pixelrt.video.sources.push import PushSource
from pixelrt.video.sources.reconnecting import Backoff, Persistence, Reconnecting
from pixelrt.video.sources.waking import Wake
from pixelrt.video.waiting import Flag

_FEWEST_MOMENTS = 5
HELD_UP_S = 5.0
"""Half of the time after which threads are left behind."""


def closing(stream: Stream, took_s: list[float]) -> Callable[[], None]:
    """Close it, and note how long that takes."""

    def close() -> None:
        began_s = time.monotonic()
        stream.close()
        took_s.append(time.monotonic() - began_s)

    return close


def once(function: Callable[..., Any], *, when: Callable[[], bool] = lambda: True) -> Callable[..., Any]:
    """The function, interrupted by a signal once, in the main thread."""
    left = [1]

    def interrupted(*arguments: Any, **options: Any) -> Any:
        if left and when() and threading.current_thread() is threading.main_thread():
            left.clear()
            signal.raise_signal(signal.SIGUSR1)
        return function(*arguments, **options)

    return interrupted


def locked(method: Callable[..., Any]) -> Callable[..., Any]:
    """The method, with the lock of its object held."""

    def holding(self: Any, *arguments: Any) -> Any:
        with self._lock:
            return method(self, *arguments)

    return holding


MOMENTS = {
    "a result is taken": (Mailbox, "_taken_of"),
    "a result is counted": (Ledger, "delivered"),
    "statistics are read": (Ledger, "accounts"),
    "a frame is pushed": (PushSource, "_take"),
}


@pytest.mark.parametrize("policy", ["latest", "all"])
@pytest.mark.parametrize("where", list(MOMENTS))
def test_a_signal_handler_may_close_the_stream_in_the_middle_of_anything(
    monkeypatch: pytest.MonkeyPatch, where: str, policy: str
) -> None:
    source = PushSource(size=SIZE)
    stream = network().stream(source, policy=policy)  # type: ignore[arg-type]
    took_s: list[float] = []
    source.push(image_of(0))
    owner, method = MOMENTS[where]
    monkeypatch.setattr(owner, method, locked(once(getattr(owner, method))))
    taken = []
    with handled(closing(stream, took_s)):
        for delivery in stream:
            taken.append(delivery)
            source.push(image_of(1))
            stream.statistics()
    assert took_s, "the signal came"
    assert took_s[0] < HELD_UP_S
    assert gone()
    check_accounts(stream.statistics(), taken, ended=True)


def test_a_signal_handler_may_close_the_stream_while_it_waits_for_a_result() -> None:
    took_s: list[float] = []
    camera = Camera(None, before=lambda camera, index: camera.wait(1e9) if index == 1 else None)
    stream = network().stream(camera)
    signalling = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGUSR1))
    with handled(closing(stream, took_s)):
        signalling.start()
        assert len(list(stream)) == 1
    signalling.join()
    assert took_s[0] < HELD_UP_S
    assert gone()


def test_a_signal_handler_may_close_the_stream_while_an_overlay_is_drawn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A sink waits for the same overlay, and so cannot end before the handler has returned."""
    took_s: list[float] = []

    class Drawing(Notes):
        wants_overlay = True

        def write(self, delivery) -> None:  # type: ignore[no-untyped-def]
            asked.set()
            delivery.overlay()

    asked = threading.Event()
    stream = network().stream(Camera(None, 0.001), sinks=[Drawing()])
    draw = stream._loop._computing._artist.draw
    monkeypatch.setattr(stream._loop._computing._artist, "draw", once(draw, when=lambda: asked.wait(10)))
    with handled(closing(stream, took_s)):
        for delivery in stream:
            delivery.overlay()
    assert took_s, "the signal came"
    assert took_s[0] < HELD_UP_S
    assert gone()


def test_a_signal_handler_that_interrupts_the_program_alone_waits_for_the_end() -> None:
    ends: list[bool] = []
    notes = Notes()
    stream = network().stream(Camera(None, 0.001), sinks=[notes])

    def close() -> None:
        stream.close()
        ends.append(gone())

    with handled(close):
        for _ in stream:
            signal.raise_signal(signal.SIGUSR1)
    assert ends == [True]
    assert notes.ends == ["closed"]


def test_a_handler_of_the_log_is_no_place_to_wait() -> None:
    seen: list[bool] = []

    class Asking(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(interrupts_a_lock())

    log, asking = logging.getLogger("interrupted"), Asking()
    log.addHandler(asking)
    log.warning("a signal comes while the lock of the log is held")
    elsewhere = threading.Thread(target=log.warning, args=("no signal comes in another thread",))
    elsewhere.start()
    elsewhere.join()
    log.removeHandler(asking)
    assert seen == [True, False]
    assert not interrupts_a_lock()


HELD = """
import signal, sys, threading, time
sys.path.insert(0, {support!r})
from live import Camera, network
from pixelrt.video.live.ledger import Ledger
from pixelrt.video.live.stages import StageClock

def interrupted(self):
    if threading.current_thread() is not threading.main_thread() or self not in fresh:
        return original(self)
    fresh.clear()
    with self._lock:
        time.sleep(0.3)  # the other threads come to need the lock
        signal.raise_signal(signal.SIGUSR1)
    return original(self)

original, {where} = {where}, interrupted
stream = network(0.02).stream(Camera(None, 0.001))
fresh = [stream._loop._books.{book}]
signal.signal(signal.SIGUSR1, lambda *_: stream.close())
threading.Thread(target=lambda: [time.sleep(0.1) for _ in stream], daemon=True).start()
time.sleep(0.25)
stream.statistics()
stream.close()
assert not fresh
print(len(list(stream)), [source.in_flight for source in stream.statistics().sources])
"""


@pytest.mark.parametrize(("where", "book"), [("Ledger.accounts", "ledger"), ("StageClock.whole", "clock")])
def test_a_signal_handler_waits_for_no_lock_of_a_thread_that_waits_for_the_interrupted_one(
    where: str, book: str
) -> None:
    code = HELD.format(support=str(Path(__file__).parents[1] / "support"), where=where, book=book)
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False
    )
    assert not ended.stderr
    assert ended.stdout == "0 [0]\n"


def test_nothing_is_delivered_after_a_signal_handler_has_closed_the_stream() -> None:
    """Wherever it came, also where the stream is stopped a moment later only."""
    closed: list[bool] = []
    late = 0
    for number in range(20):
        camera = Camera(None, 0.0005)
        stream = network(0.001).stream(camera)

        def close(stream: Stream = stream) -> None:
            stream.close()
            closed.append(True)

        closed.clear()
        with handled(close):
            signalling = threading.Timer(0.05 + number * 0.0007, os.kill, (os.getpid(), signal.SIGUSR1))
            signalling.start()
            taken = []
            for delivery in stream:
                late += bool(closed)
                taken.append(delivery)
            signalling.join()
        check_accounts(stream.statistics(), taken, cameras=[camera], ended=True)
    assert late <= 3, "but for one that had its hands on a result already"


def test_a_sink_that_closes_the_stream_at_once_has_no_thread_started() -> None:
    class Closing(Notes):
        def attach(self, view: object) -> None:
            stream.close()

    for _ in range(5):
        camera = Camera(None, 0.0005)
        stream = network().stream(camera, sinks=[Closing()])
        assert not list(stream)
        assert gone()
        assert stream.statistics().sources[0].captured == 0


def test_an_item_that_a_signal_handler_dropped_is_not_taken() -> None:
    dropped: list[int] = []
    mailbox: Mailbox[int] = Mailbox(
        [Room(1, newest=True)], drop=lambda item, _: dropped.append(item), replaced="newer"
    )
    mailbox.put(0, 7)

    def close_and_allow(_: int) -> bool:
        if not mailbox.finished:
            allowed = bool(mailbox.depth(0))
            mailbox.close()
            return allowed
        return True

    assert mailbox.take(0, may_go=close_and_allow) == []
    assert dropped == [7]


def test_ctrl_c_may_come_at_any_moment_of_a_wait() -> None:
    for moment in itertools.count(1):
        mailbox: Mailbox[int] = Mailbox([Room(1, newest=True)], drop=lambda *_: None, replaced="newer")
        interrupting = Interrupting(moment)
        sys.setprofile(interrupting)
        try:
            mailbox.take(0.001)
        except KeyboardInterrupt:
            pass
        finally:
            sys.setprofile(None)
        putting = threading.Thread(target=mailbox.put, args=(0, 7), daemon=True)
        putting.start()
        putting.join(HELD_UP_S)
        assert mailbox.take() == [7], "the lock is free"
        if not interrupting.came:
            break
    assert moment > 10


WaitAndStop: TypeAlias = tuple[Callable[[], object], Callable[[], None]]


def a_flag() -> WaitAndStop:
    flag = Flag()
    return flag.wait, flag.set


def a_monitor() -> WaitAndStop:
    log = StatisticsLog(None, lambda: STATISTICS)
    monitor = Monitor([], Ledger(0), network_s=lambda: 0.0, log=log)
    return monitor.run, monitor.stop


def a_watchdog() -> WaitAndStop:
    dog = Watchdog(0.001, lambda _: None)
    return dog.run, dog.stop


class Away(Camera):
    """A camera that does not answer."""

    def __iter__(self) -> Iterator[Frame]:
        raise SourceError("no answer")

    def interrupt(self) -> None:
        pass


class Photos(Away):
    """Two frames, of which the second is due much later."""

    def __iter__(self) -> Iterator[Frame]:
        return iter([self.frame(0), dataclasses.replace(self.frame(1), time_s=1e6)])


def a_played_film() -> WaitAndStop:
    film = Paced(Photos(period_s=1.0))
    return lambda: list(film), film.interrupt


def a_camera_that_is_away() -> WaitAndStop:
    patient = Persistence(wait=True, backoff=Backoff(first_s=1e6, most_s=1e6))
    camera = Reconnecting(Away, name="camera", persistence=patient)
    return lambda: list(camera), camera.interrupt


def a_wake() -> WaitAndStop:
    wake = Wake()

    def end() -> None:
        wake.set()
        wake.close()

    return end, wake.set


@pytest.mark.parametrize(
    "waiting", [a_flag, a_monitor, a_watchdog, a_played_film, a_camera_that_is_away, a_wake]
)
def test_a_finalizer_may_stop_a_thread_at_any_moment_of_its_wait(
    monkeypatch: pytest.MonkeyPatch, waiting: Callable[[], WaitAndStop]
) -> None:
    """The garbage collector comes where it likes, also in the thread that is to be stopped."""
    monkeypatch.setattr(watching, "_TICK_S", 0.001)
    for moment in range(1, 150):
        wait, stop = waiting()
        stopping = Interrupting(moment, stop)

        def run(wait: Callable[[], object] = wait, stopping: Interrupting = stopping) -> None:
            sys.setprofile(stopping)
            try:
                wait()
            finally:
                sys.setprofile(None)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        thread.join(HELD_UP_S if moment <= _FEWEST_MOMENTS else 0.1)
        if not stopping.came:  # it waits, and there are no more moments
            stop()
        thread.join(HELD_UP_S)
        assert not thread.is_alive(), f"stopped at moment {moment}"
        if not stopping.came:
            break
    assert moment > _FEWEST_MOMENTS


def interrupted() -> None:
    raise KeyboardInterrupt


def test_ctrl_c_does_not_cut_the_start_of_the_threads_in_two(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []

    def start(self: threading.Thread) -> None:
        started.append(self.name)
        original(self)

    original = threading.Thread.start
    monkeypatch.setattr(threading.Thread, "start", once(start))
    stream = network().stream(Camera(None, 0.001), sinks=[Notes()])
    with handled(interrupted), pytest.raises(KeyboardInterrupt):
        next(stream)
    assert len(started) == 4, "network, monitor, sink, source"
    assert gone()
    assert stream.health.is_ok


@pytest.mark.parametrize("method", ["stop", "finish"])
def test_ctrl_c_does_not_cut_the_end_in_two(monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    """It is most of all pressed twice."""
    camera = Camera(None, 0.001)
    stream = network().stream(camera)
    first = next(stream)
    monkeypatch.setattr(Outlets, method, once(getattr(Outlets, method)))
    with handled(interrupted), pytest.raises(KeyboardInterrupt):
        stream.close()
    until_s = time.monotonic() + HELD_UP_S
    while not gone() and time.monotonic() < until_s:
        time.sleep(0.01)
    assert gone(), "although nobody waited for it"
    stream.close()
    check_accounts(stream.statistics(), [first], cameras=[camera], ended=True)


@pytest.mark.parametrize("problem", [RuntimeError("can't start new thread"), KeyboardInterrupt()])
@pytest.mark.parametrize("after", range(4))
def test_what_could_not_be_started_is_given_back(
    monkeypatch: pytest.MonkeyPatch, problem: BaseException, after: int
) -> None:
    ends: list[str] = []

    def images() -> Iterator[object]:
        try:
            while True:
                yield image_of(0)
        finally:
            ends.append("closed")

    started, start = [], threading.Thread.start

    def starting(self: threading.Thread) -> None:
        if self.name.startswith("pixelrt"):
            started.append(self.name)
            if len(started) == after + 1:
                raise problem
        start(self)

    monkeypatch.setattr(threading.Thread, "start", starting)
    notes = Notes()
    stream = network().stream(images(), sinks=[notes])
    with pytest.raises(type(problem)):
        next(stream)
    assert len(started) == after + 1, "network, monitor, sink, source"
    assert gone()
    assert notes.ends == (["aborted"] if after < 3 else ["closed"])
    assert ends == ["closed"], "of the generator, whose first image is looked at before"
    check_accounts(stream.statistics(), [], ended=True)


FORK = """
import os, sys, time
sys.path.insert(0, {support!r})
from live import Camera, network

class Counted(Camera):
    interrupts = 0
    def interrupt(self):
        Counted.interrupts += 1
        super().interrupt()

stream = network().stream(Counted(None, 0.01))
next(stream)
child = os.fork()
if not child:
    try:
        next(stream)
    except Exception as problem:
        print(type(problem).__name__, problem, flush=True)
    began_s = time.monotonic()
    stream.close()
    del stream
    print("closed", Counted.interrupts, time.monotonic() - began_s < 5, flush=True)
    sys.exit(0)
os.waitpid(child, 0)
print("goes on", next(stream).frame.source, flush=True)
stream.close()
"""


def test_a_forked_child_neither_waits_for_the_stream_nor_ends_it() -> None:
    code = FORK.format(support=str(Path(__file__).parents[1] / "support"))
    ended = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    first, second, third = ended.stdout.splitlines()
    assert first.startswith(f"{InputError.__name__} this stream belongs to process ")
    assert (second, third) == ("closed 0 True", "goes on camera")
    assert not ended.stderr
