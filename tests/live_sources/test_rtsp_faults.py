"""An RTSP camera that fails in every way; real processes, real sockets."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Iterator
from itertools import islice, pairwise

import needs
import pytest
import stamped
from fault_proxy import FaultProxy, fault_proxy
from leaks import memory_mib, nothing_left
from rtsp_server import RtspServer, free_port

from pixelrt.errors import SourceError
from pixelrt.video.events import Event
from pixelrt.video.frame import Frame
from pixelrt.video.sources import open_source

log = logging.getLogger(__name__)
LIVES = 20
QUICK = "backoff=0.05&backoff_most=0.2&connect=2"


@pytest.fixture(scope="module")
def camera() -> Iterator[RtspServer]:
    needs.gst_rtsp_server()
    with RtspServer(fps=25, gop=10) as server:
        yield server


@pytest.fixture
def proxy(camera: RtspServer) -> Iterator[FaultProxy]:
    with fault_proxy(camera.port) as proxy:
        yield proxy


def check(frames: list[tuple[Frame, stamped.Stamp | None]], *, damage: bool = False) -> None:
    """Numbers without gaps, growing times, no picture twice, none out of order, none invented or damaged."""
    assert [frame.index for frame, _ in frames] == list(range(len(frames)))
    assert all(before.time_s < after.time_s for (before, _), (after, _) in pairwise(frames))
    assert all(before.captured_s <= after.captured_s for (before, _), (after, _) in pairwise(frames))
    stamps = [stamp.index for _, stamp in frames if stamp is not None]
    assert all(before < after for before, after in pairwise(stamps))
    if not damage:
        assert len(stamps) == len(frames), "a picture that the camera never took"


def without_pixels(frame: Frame) -> tuple[Frame, stamped.Stamp | None]:
    stamp = stamped.read(frame.image)
    tiny = Frame(
        image=frame.image[:1, :1].copy(),
        index=frame.index,
        time_s=frame.time_s,
        name=frame.name,
        captured_s=frame.captured_s,
    )
    return tiny, stamp


class Killer(threading.Thread):
    """Kills a server and starts it again, each time after it gave some frames."""

    def __init__(self, server: RtspServer) -> None:
        super().__init__(name="killer")
        self.server, self.ready_s = server, [time.monotonic()]
        self.fed = threading.Semaphore(0)
        """Released when frames came from the present life."""
        self.start()

    def run(self) -> None:
        for _ in range(LIVES):
            if not self.fed.acquire(timeout=30):
                return
            self.server.kill()
            self.server.start()
            self.ready_s.append(time.monotonic())


def test_a_server_that_is_killed_and_started_twenty_times() -> None:
    needs.gst_rtsp_server()
    with RtspServer(fps=30, gop=10) as server, nothing_left():
        frames: list[tuple[Frame, stamped.Stamp | None]] = []
        events: list[Event] = []
        memory: list[float] = []
        first_s: list[float] = []
        with open_source(f"{server.url}#{QUICK}") as source:
            source.on_event = events.append
            killer = Killer(server)
            iterator = iter(source)
            for _ in range(LIVES + 1):
                connected = sum(event.kind == "connected" for event in events)
                while sum(event.kind == "connected" for event in events) == connected:
                    frames.append(without_pixels(next(iterator)))
                first_s.append(time.monotonic())
                frames.extend(without_pixels(frame) for frame in islice(iterator, 6))
                memory.append(memory_mib())
                killer.fed.release()
            killer.join()
            losses = dict(source.losses)
    check(frames)
    kinds = Counter(event.kind for event in events)
    back_s = sorted(first - ready for first, ready in zip(first_s[1:], killer.ready_s[1:], strict=True))
    log.info(
        "%d kills: %d frames; server ready to first frame p50 %.2f s, max %.2f s; memory %.1f -> %.1f MiB",
        *(LIVES, len(frames), back_s[LIVES // 2], back_s[-1], memory[2], memory[-1]),
    )
    log.info("events %s, losses %s", dict(kinds), losses)
    for event in events:
        if event.kind == "reconnecting" and "refused" not in event.detail:
            log.info("try %d after: %s", event.attempt, event.detail)
    assert kinds["connected"] == LIVES + 1
    assert kinds["lost"] + kinds["stalled"] == LIVES
    assert kinds["reconnecting"] >= LIVES
    assert memory[-1] - memory[2] < 15


def test_a_cut_connection_is_made_again(proxy: FaultProxy) -> None:
    with nothing_left():
        frames, events = [], []
        with open_source(f"rtsp://127.0.0.1:{proxy.port}/live#{QUICK}") as source:
            source.on_event = events.append
            iterator = iter(source)
            for _ in range(3):
                frames.extend(without_pixels(frame) for frame in islice(iterator, 8))
                proxy.cut()
            frames.extend(without_pixels(frame) for frame in islice(iterator, 8))
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
            frames = [without_pixels(frame) for frame in islice(iterator, 8)]
            proxy.stall = True
            release = threading.Timer(1.5, setattr, (proxy, "stall", False))
            release.start()
            began_s = time.monotonic()
            frames.extend(without_pixels(frame) for frame in islice(iterator, 8))
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
            frames = [without_pixels(frame) for frame in islice(iterator, 5)]
            proxy.swallow = True
            proxy.cut()
            release = threading.Timer(1.5, setattr, (proxy, "swallow", False))
            release.start()
            frames.extend(without_pixels(frame) for frame in islice(iterator, 5))
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
            frames = [without_pixels(frame) for frame in islice(iterator, 10)]
            proxy.flips_per_mb = 100.0
            until_s = time.monotonic() + 3
            while time.monotonic() < until_s:
                frames.append(without_pixels(next(iterator)))
            proxy.flips_per_mb = 0.0
            frames.extend(without_pixels(frame) for frame in islice(iterator, 40))
            losses = dict(source.losses)
    check(frames, damage=True)
    unread = sum(stamp is None for _, stamp in frames)
    log.info("bits turned over for 3 s: %d frames, %d of them wrong unnoticed, losses %s, events %s",
             len(frames), unread, losses, dict(Counter(event.kind for event in events)))  # fmt: skip
    assert losses["damaged"] > 0
    assert any(event.kind == "damaged" for event in events)
    assert all(stamp is not None for _, stamp in frames[-10:]), "whole again"


def test_a_camera_that_is_not_there_yet_is_waited_for() -> None:
    needs.gst_rtsp_server()
    port = free_port()
    servers: list[RtspServer] = []
    starter = threading.Timer(0.7, lambda: servers.append(RtspServer(port, fps=25)))
    starter.start()
    try:
        with open_source(f"rtsp://127.0.0.1:{port}/live#{QUICK}&wait=yes") as source:
            events: list[Event] = []
            source.on_event = events.append
            frames = [without_pixels(frame) for frame in islice(source, 5)]
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
    with RtspServer(fps=25) as server, nothing_left(), open_source(f"{server.url}#reconnect=no") as source:
        iterator = iter(source)
        next(iterator)
        server.kill()
        with pytest.raises(SourceError, match=r"the server closed the stream|the connection broke"):
            list(iterator)


@pytest.mark.parametrize("when", ["flowing", "stalled", "connecting", "backing off"])
def test_interrupt_ends_the_iteration_at_once(proxy: FaultProxy, when: str) -> None:
    options = "stall=8&connect=2&backoff=" + ("30&backoff_most=30" if when == "backing off" else "0.01")
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
    assert ended_s - stopped_s[0] < 5
    assert closed_s - ended_s < 10
