"""Faults of the network again and again while a stream goes on; real processes, real sockets."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import needs
import numpy as np
import pytest
import stamped
from fault_proxy import FaultProxy, fault_proxy
from film import Seen, seen
from leaks import memory_mib, nothing_left
from rtsp_server import RtspServer
from witness import check_run, witnesses

from pixelrt.testing import fake_segmenter
from pixelrt.video.events import Event
from pixelrt.video.live import Stream

log = logging.getLogger(__name__)
ROUNDS, SETTLED = 9, 3
"""Of a fault, and after how many of them memory may grow no more."""
MOST_MIB = 10
"""By what is no leak: threads that come and go leave the allocator's pools behind, larger or smaller."""
FRAMES = 8
"""Between two faults."""


class Watched:
    """A stream over a camera behind a network that fails, and what came out of it."""

    def __init__(self, stream: Stream, events: list[Event]) -> None:
        self.stream, self.events = stream, events
        self.frames: list[Seen] = []
        self.memory: list[float] = []
        self._results = iter(stream)

    @property
    def reconnects(self) -> int:
        return self.stream.statistics().sources[0].reconnects

    def take(self, count: int) -> None:
        """So many more results."""
        for _ in range(count):
            self.frames.append(seen(next(self._results).frame))

    def take_until(self, what: Callable[[], object]) -> None:
        """Results until something is so."""
        while not what():
            self.take(1)

    def told(self) -> Counter[str]:
        return Counter(event.kind for event in self.events)


@contextmanager
def watched(
    proxy: FaultProxy, options: str, *, damage: bool = False, on_event: Callable[[Event], None] | None = None
) -> Iterator[Watched]:
    """A stream; when the block is over, nothing of it is left, and all that it gave and told is right."""
    events: list[Event] = []

    def tell(event: Event) -> None:
        events.append(event)
        if on_event is not None:
            on_event(event)

    url = f"rtsp://127.0.0.1:{proxy.port}/live#backoff=0.05&backoff_most=0.2&{options}"
    segmenter = fake_segmenter(lambda frame: np.zeros(frame.shape[:2], np.uint8), size=stamped.SIZE)
    with nothing_left():
        with segmenter, segmenter.stream(url, on_event=tell, stall=60) as stream:
            (witness,) = witnesses(stream)
            run = Watched(stream, events)
            yield run
            stream.close()
            (figures,) = stream.statistics().sources
        proxy.cut()
    check_run(figures, witness, run.frames, damage=damage)
    log.info("%s, events %s", figures, dict(run.told()))
    log.info("missing %s", witness.missing())
    log.info("memory %s MiB", [round(each, 1) for each in run.memory])
    assert run.told()["connected"] == figures.reconnects + 1
    assert len(run.memory) == ROUNDS
    assert run.memory[-1] - run.memory[SETTLED - 1] < MOST_MIB


@pytest.fixture(scope="module")
def camera() -> Iterator[RtspServer]:
    needs.gst_rtsp_server()
    with RtspServer(fps=50, gop=10, every=True) as server:
        yield server


@pytest.fixture
def proxy(camera: RtspServer) -> Iterator[FaultProxy]:
    with fault_proxy(camera.port) as proxy:
        yield proxy


def test_a_server_that_becomes_half_open_again_and_again(proxy: FaultProxy) -> None:
    def answer_again(event: Event) -> None:
        if event.kind == "reconnecting" and event.attempt > 1:
            proxy.swallow = False

    with watched(proxy, "connect=0.5", on_event=answer_again) as run:
        run.take(FRAMES)
        for _ in range(ROUNDS):
            before, proxy.swallow = run.reconnects, True
            proxy.cut()
            run.take_until(lambda before=before: run.reconnects > before)
            run.take(FRAMES)
            run.memory.append(memory_mib())
    unanswered = [event for event in run.events if "no answer within 0.5 s" in event.detail]
    assert len(unanswered) >= ROUNDS
    assert run.told()["lost"] >= ROUNDS


def test_a_stream_that_stalls_again_and_again(proxy: FaultProxy) -> None:
    def go_on(event: Event) -> None:
        if event.kind == "stalled":
            proxy.stall = False

    with watched(proxy, "connect=2&stall=0.7", on_event=go_on) as run:
        run.take(FRAMES)
        for _ in range(ROUNDS):
            before, proxy.stall = run.reconnects, True
            run.take_until(lambda before=before: run.reconnects > before)
            run.take(FRAMES)
            run.memory.append(memory_mib())
    assert run.told()["stalled"] >= ROUNDS


def test_packets_that_are_damaged_again_and_again(proxy: FaultProxy) -> None:
    """Bits turn over anywhere: in pictures, headers and RTSP itself."""
    with watched(proxy, "connect=2&stall=1", damage=True) as run:
        run.take(FRAMES)
        for _ in range(ROUNDS):
            proxy.flips_per_mb = 100.0
            healing = threading.Timer(0.8, setattr, (proxy, "flips_per_mb", 0.0))
            healing.start()
            run.take_until(lambda: not proxy.flips_per_mb)
            healing.join()
            run.take(3 * FRAMES)
            assert all(frame.stamp is not None for frame in run.frames[-FRAMES:]), "whole again"
            run.memory.append(memory_mib())
        assert run.stream.statistics().sources[0].lost["damaged"] > 0
    assert run.told()["damaged"] > 0
