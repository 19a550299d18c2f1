"""A stream that is left, in whatever way, stops at once, and nothing of it stays (see conftest.py)."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest
from live import Camera, Notes, check_accounts, check_pairs, gone, image_of, network, stuck

from pixelrt.errors import SinkError
from pixelrt.segmentation import Segmenter
from pixelrt.video.delivery import Delivery
from pixelrt.video.live import Stream
from pixelrt.video.live.ledger import Ledger
from pixelrt.video.sources.push import PushSource


def test_break_ends_it_at_once() -> None:
    camera, notes = Camera(None, before=stuck), Notes()
    stream = network().stream(camera, sinks=[notes])
    taken = []
    for delivery in stream:
        taken.append(delivery)
        break
    assert gone()
    assert notes.ends == ["closed"]
    assert next(stream, None) is None, "it has ended for good"
    check_accounts(stream.statistics(), taken, cameras=[camera], ended=True)


def test_an_exception_in_the_loop_ends_it_at_once() -> None:
    camera, notes = Camera(None, before=stuck), Notes()
    with pytest.raises(ZeroDivisionError):
        for _ in network().stream(camera, sinks=[notes]):
            1 / 0  # noqa: B018
    assert gone()
    assert notes.ends == ["closed"], "what was recorded until the crash is kept"


def test_leaving_a_with_block_ends_it() -> None:
    with network().stream(Camera(None, 0.001)) as stream:
        first, second = next(stream), next(stream)
    assert gone()
    assert first.frame.index < second.frame.index


def test_an_error_in_a_with_block_is_not_replaced_by_another(caplog: pytest.LogCaptureFixture) -> None:
    class Unfinished(Notes):
        def close(self) -> tuple[Path, ...]:
            raise SinkError("cannot write the index")

    stream = network().stream(Camera(None, 0.001), sinks=[Unfinished()], on_sink_error="stop")
    with pytest.raises(ZeroDivisionError), stream:
        next(stream)
        1 / 0  # noqa: B018
    assert "cannot write the index" in caplog.text


def test_one_that_was_never_started_leaves_nothing_open() -> None:
    notes = Notes()
    stream = network().stream("test://drive?frames=3&size=64x96", sinks=[notes])
    stream.close()
    assert notes.ends == ["aborted"]
    assert list(stream) == []
    assert stream.statistics().seconds == 0


def test_whoever_waits_in_push_is_let_go_by_a_stream_that_never_started() -> None:
    source = PushSource(keep="all", capacity=1)
    stream = network().stream(source)
    pushed: list[bool] = []
    pushing = threading.Thread(
        target=lambda: pushed.extend(source.push(image_of(number)) for number in range(2)), daemon=True
    )
    pushing.start()
    pushing.join(0.1)
    stream.close()
    pushing.join(10)
    assert not pushing.is_alive()
    assert pushed == [True, False]


def test_it_is_closed_when_nobody_holds_it_any_more() -> None:
    stream = network().stream(Camera(None, before=stuck))
    next(stream)
    gone_ref = weakref.ref(stream)
    del stream
    assert gone_ref() is None
    assert gone()


def test_one_in_a_reference_cycle_is_closed_by_the_garbage_collector() -> None:
    class Robot:
        def __init__(self) -> None:
            self.me = self
            self.stream = network().stream(Camera(None, before=stuck))

    next(Robot().stream)
    gc.collect()
    assert gone()


def test_close_ends_the_loop_of_another_thread() -> None:
    camera = Camera(None, before=stuck)
    stream = network().stream(camera)
    threading.Timer(0.2, stream.close).start()
    taken = list(stream)
    assert taken[0].frame.index == 0
    stream.close()
    assert gone()
    check_accounts(stream.statistics(), taken, cameras=[camera], ended=True)


def test_close_can_be_called_by_many_threads_at_once() -> None:
    stream = network(0.01).stream(Camera(None, 0.001))
    next(stream)
    closers = [threading.Thread(target=stream.close) for _ in range(8)]
    for closer in closers:
        closer.start()
    for closer in closers:
        closer.join(5)
    assert gone()


def test_it_can_be_closed_from_its_own_threads() -> None:
    streams: list[Stream] = []
    notes = Notes(before=lambda _: streams[0].close())
    streams.append(network().stream(Camera(None, 0.001), sinks=[notes]))
    list(streams[0])
    streams[0].close()
    assert gone()
    assert not streams[0].statistics().sinks[0].failed


def test_sources_that_it_opened_are_closed_and_others_are_not() -> None:
    camera = Camera(3)
    list(network().stream(camera))
    assert camera.closed == 0
    opened = network().stream("test://drive?frames=2&size=64x96")
    (given,) = opened._loop.inputs
    given.source.close = lambda: closed.append(threading.current_thread().name)  # type: ignore[method-assign]
    closed: list[str] = []
    list(opened)
    assert closed == ["pixelrt source drive"], "by the thread that iterated"


def test_a_generator_of_the_program_runs_its_finally() -> None:
    ends: list[str] = []

    def frames():  # type: ignore[no-untyped-def]
        try:
            while True:
                yield Camera(1).frame(0).image
        finally:
            ends.append("closed")

    for _ in network().stream(frames()):
        break
    assert ends == ["closed"]


def test_results_that_were_on_their_way_are_accounted_for() -> None:
    camera, taken = Camera(None, live=False), []
    stream = network(0.01).stream(camera)
    for delivery in stream:
        taken.append(delivery)
        if delivery.frame.index == 5:
            break
    (source,) = stream.statistics().sources
    check_accounts(stream.statistics(), taken, cameras=[camera], ended=True)
    assert source.delivered == 6
    assert source.dropped["stopped"] == source.captured - 6 > 0


def test_run_calls_back_in_this_thread() -> None:
    threads: set[str] = set()
    taken: list[Delivery] = []

    def on_result(delivery: Delivery) -> None:
        threads.add(threading.current_thread().name)
        taken.append(delivery)

    statistics = network().stream(Camera(10, live=False)).run(on_result)
    assert threads == {threading.current_thread().name}
    assert len(taken) == statistics.delivered == 10
    check_pairs(taken)


def test_run_without_a_callback_feeds_the_sinks() -> None:
    notes = Notes()
    stream = network().stream(Camera(300, live=False), sinks=[notes])
    statistics = stream.run()
    assert notes.indices == list(range(300))
    assert statistics.delivered == 300
    assert stream.outputs == (Path("notes"),)
    check_accounts(statistics, notes.got, whole=True)


def test_run_after_next_takes_what_is_left() -> None:
    notes = Notes()
    stream = network().stream(Camera(40, live=False), sinks=[notes])
    assert next(stream).frame.index == 0
    running = threading.Thread(target=stream.run, daemon=True)
    running.start()
    running.join(20)
    assert not running.is_alive()
    assert notes.indices == list(range(40))
    check_accounts(stream.statistics(), notes.got, whole=True)


def test_run_is_ended_by_an_exception_in_the_callback() -> None:
    def on_result(delivery: Delivery) -> None:
        raise ValueError(delivery.frame.index)

    with pytest.raises(ValueError, match="0"):
        network().stream(Camera(None, before=stuck)).run(on_result)
    assert gone()


def test_a_segmenter_can_be_used_again_after_its_stream() -> None:
    segmenter = network()
    for _ in range(3):
        for _ in segmenter.stream(Camera(None, 0.001)):
            break
        assert isinstance(segmenter, Segmenter)
        segmenter(Camera(1).frame(0).image)


@contextlib.contextmanager
def killed(child: subprocess.Popen[str]) -> Iterator[None]:
    """A process that a failed test does not leave behind."""
    with child:
        try:
            yield
        finally:
            child.kill()


CTRL_C = """
import sys, threading, time
sys.path.insert(0, {support!r})
from live import Camera, Notes, network

def stuck(camera, index):
    if index == 1:
        camera.wait(1e9)

class Said(Notes):
    def close(self):
        print("sink closed", flush=True)
        return ()

{how}
try:
    for delivery in stream:
        print("frame", flush=True)
        {body}
except KeyboardInterrupt:
    print("interrupted", flush=True)
left = [thread.name for thread in threading.enumerate() if thread.name.startswith("pixelrt")]
print("left", left, flush=True)
"""
_STUCK = "stream = network().stream(Camera(None, before=stuck), sinks=[Said()])"
_BUSY = "stream = network(0.3).stream(Camera(None, 0.01), sinks=[Said()])"
WAYS = {
    "in next": (_STUCK, "pass"),
    "in the body": (_STUCK, "time.sleep(1e9)"),
    "in a network": (_BUSY, "pass"),
    "in run": (f"{_BUSY}\nstream = (print('frame', flush=True) or run() for run in [stream.run])", "pass"),
}


@pytest.mark.parametrize("way", list(WAYS))
def test_ctrl_c_ends_a_process(way: str) -> None:
    how, body = WAYS[way]
    support = str(Path(__file__).parents[1] / "support")
    code = CTRL_C.format(support=support, how=how, body=body)
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    with killed(child), child.stdout:
        assert child.stdout.readline() == "frame\n"
        time.sleep(0.2)
        began_s = time.monotonic()
        os.kill(child.pid, signal.SIGINT)
        lines = child.stdout.read().splitlines()
        assert child.wait(10) == 0
    assert time.monotonic() - began_s < 5
    assert lines[-3:] == ["sink closed", "interrupted", "left []"]


def test_a_process_that_forgets_its_stream_ends_and_finishes_its_sinks() -> None:
    support = str(Path(__file__).parents[1] / "support")
    how = WAYS["in next"][0]
    code = CTRL_C.partition("try:")[0].format(support=support, how=how) + "print(next(stream).frame.index)"
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=20, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.split("\n")[:2] == ["0", "sink closed"]
    assert not ended.stderr


def test_a_result_that_is_taken_while_another_thread_closes_is_counted_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def slowly(self: Ledger, source: int) -> None:
        counting.set()
        time.sleep(1)
        count(self, source)

    counting, count = threading.Event(), Ledger.delivered
    monkeypatch.setattr(Ledger, "delivered", slowly)
    stream = network().stream(Camera(None, 0.001))
    closing = threading.Thread(target=lambda: (counting.wait(20), stream.close()))
    closing.start()
    next(stream)
    closing.join()
    (source,) = stream.statistics().sources
    assert (source.delivered, source.in_flight) == (1, 0)
