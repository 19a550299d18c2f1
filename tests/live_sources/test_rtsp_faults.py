"""An RTSP camera that fails in every way; real processes, real sockets."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Iterator
from itertools import islice

import needs
import pytest
from fault_proxy import FaultProxy, fault_proxy
from film import Seen, check, seen
from leaks import nothing_left
from rtsp_server import RtspServer
from server_process import free_port

from pixelrt.errors import SourceError
from pixelrt.video.events import Event
from pixelrt.video.sources import open_source

log = logging.getLogger(__name__)
QUICK = "backoff=0.05&backoff_most=0.2&connect=2"


@pytest.fixture(scope="module")
def camera() -> Iterator[RtspServer]:
    needs.gst_rtsp_server()
    with RtspServer(fps=50, gop=10) as server:
        yield server


@pytest.fixture
def proxy(camera: RtspServer) -> Iterator[FaultProxy]:
    with fault_proxy(camera.port) as proxy:
        yield proxy


def came_again(events: list[Event]) -> bool:
    """Frames that came before a fault may be delivered after it; those of the next connection count."""
    return sum(event.kind == "connected" for event in events) == 2


def test_a_cut_connection_is_made_again(proxy: FaultProxy) -> None:
    with nothing_left():
        frames: list[Seen] = []
        events: list[Event] = []
        with open_source(f"rtsp://127.0.0.1:{proxy.port}/live#{QUICK}") as source:
            source.on_event = events.append
            iterator = iter(source)
            for times in range(1, 4):
                frames.extend(seen(frame) for frame in islice(iterator, 8))
                proxy.cut()
                while sum(event.kind == "lost" for event in events) < times:
                    frames.append(seen(next(iterator)))
            frames.extend(seen(frame) for frame in islice(iterator, 8))
    check(frames)
    assert [event.kind for event in events if event.kind in ("connected", "lost")] == [
        "connected",
        "lost",
    ] * 3 + ["connected"]


def test_a_stall_is_told_and_the_connection_made_again(proxy: FaultProxy) -> None:
    with nothing_left():
        events: list[Event] = []
        with open_source(f"rtsp://127.0.0.1:{proxy.port}/live#{QUICK}&stall=0.7") as source:
            source.on_event = events.append
            iterator = iter(source)
            frames = [seen(frame) for frame in islice(iterator, 8)]
            proxy.stall = True
            release = threading.Timer(1.5, setattr, (proxy, "stall", False))
            release.start()
            began_s = time.monotonic()
            while not came_again(events):
                frames.append(seen(next(iterator)))
            frames.extend(seen(frame) for frame in islice(iterator, 8))
            log.info("stall of 1.5 s: frames again after %.2f s", time.monotonic() - began_s)
            release.join()
    check(frames)
    kinds = [event.kind for event in events]
    assert kinds[:3] == ["connected", "stalled", "reconnecting"]
    assert kinds[-1] == "connected"
    assert "no frame for 0.7 s" in events[1].detail


def test_a_half_open_server_is_left_after_its_time(proxy: FaultProxy) -> None:
    proxy.swallow = True
    began_s = time.monotonic()
    with nothing_left(), pytest.raises(SourceError, match=r"no answer within 0.5 s"):
        open_source(f"rtsp://127.0.0.1:{proxy.port}/live#connect=0.5")
    assert 0.4 < time.monotonic() - began_s < 5


def test_a_server_that_becomes_half_open_is_survived(proxy: FaultProxy) -> None:
    with nothing_left():
        events: list[Event] = []
        with open_source(
            f"rtsp://127.0.0.1:{proxy.port}/live#backoff=0.05&backoff_most=0.2&connect=0.5"
        ) as source:
            source.on_event = events.append
            iterator = iter(source)
            frames = [seen(frame) for frame in islice(iterator, 5)]
            proxy.swallow = True
            proxy.cut()
            release = threading.Timer(1.5, setattr, (proxy, "swallow", False))
            release.start()
            while not came_again(events):
                frames.append(seen(next(iterator)))
            frames.extend(seen(frame) for frame in islice(iterator, 5))
            release.join()
            proxy.cut()
    check(frames)
    assert sum(event.kind == "reconnecting" for event in events) >= 2


def test_damaged_packets_lose_pictures_and_nothing_else(proxy: FaultProxy) -> None:
    """Bits turn over anywhere: in pictures, headers and RTSP itself."""
    with nothing_left():
        events: list[Event] = []
        with open_source(f"rtsp://127.0.0.1:{proxy.port}/live#{QUICK}&stall=1") as source:
            source.on_event = events.append
            iterator = iter(source)
            frames = [seen(frame) for frame in islice(iterator, 10)]
            proxy.flips_per_mb = 100.0
            until_s = time.monotonic() + 2
            while time.monotonic() < until_s:
                frames.append(seen(next(iterator)))
            proxy.flips_per_mb = 0.0
            frames.extend(seen(frame) for frame in islice(iterator, 40))
            losses = dict(source.losses)
    check(frames, damage=True)
    unread = sum(frame.stamp is None for frame in frames)
    log.info("bits turned over for 2 s: %d frames, %d of them wrong unnoticed, losses %s, events %s",
             len(frames), unread, losses, dict(Counter(event.kind for event in events)))  # fmt: skip
    assert losses["damaged"] > 0
    assert any(event.kind == "damaged" for event in events)
    assert all(frame.stamp is not None for frame in frames[-10:]), "whole again"


def test_a_camera_that_is_not_there_yet_is_waited_for() -> None:
    needs.gst_rtsp_server()
    port = free_port()
    servers: list[RtspServer] = []
    starter = threading.Timer(0.7, lambda: servers.append(RtspServer(port, fps=50)))
    starter.start()
    try:
        with open_source(f"rtsp://127.0.0.1:{port}/live#{QUICK}&wait=yes") as source:
            events: list[Event] = []
            source.on_event = events.append
            frames = [seen(frame) for frame in islice(source, 5)]
    finally:
        starter.join()
        for server in servers:
            server.kill()
    check(frames)
    kinds = [event.kind for event in events]
    assert kinds[0] == "reconnecting"
    assert kinds[-1] == "connected"
    assert "connection refused" in events[0].detail


def test_without_reconnect_a_server_that_dies_is_an_error() -> None:
    needs.gst_rtsp_server()
    with RtspServer(fps=50) as server, nothing_left(), open_source(f"{server.url}#reconnect=no") as source:
        iterator = iter(source)
        next(iterator)
        server.kill()
        with pytest.raises(SourceError, match=r"the server closed the stream|the connection broke"):
            list(iterator)


@pytest.mark.parametrize("when", ["flowing", "stalled", "connecting", "backing off"])
def test_interrupt_ends_the_iteration_at_once(proxy: FaultProxy, when: str) -> None:
    options = "wait=yes&stall=4&connect=2&backoff=" + (
        "30&backoff_most=30" if when == "backing off" else "0.01"
    )
    with nothing_left():
        source = open_source(f"rtsp://127.0.0.1:{proxy.port}/live#{options}")
        told = threading.Event()
        source.on_event = lambda event: told.set() if event.kind == "reconnecting" else None
        iterator = iter(source)
        next(iterator)
        if when == "stalled":
            proxy.stall = True
        if when in ("connecting", "backing off"):
            proxy.swallow = True
            proxy.cut()
        stopped_s: list[float] = []

        def stop() -> None:
            if when in ("connecting", "backing off"):
                told.wait(10)
            time.sleep(0.4)
            stopped_s.append(time.monotonic())
            source.interrupt()

        stopper = threading.Thread(target=stop)
        stopper.start()
        for _ in iterator:
            pass
        ended_s = time.monotonic()
        source.close()
        closed_s = time.monotonic()
        stopper.join()
        proxy.stall = False
        proxy.cut()
    log.info(
        "%s: ended %.3f s after interrupt, closed %.3f s later",
        when,
        ended_s - stopped_s[0],
        closed_s - ended_s,
    )
    assert ended_s - stopped_s[0] < 2
    assert closed_s - ended_s < 3, "it waits for FFmpeg, which has a patience of 4 s"
