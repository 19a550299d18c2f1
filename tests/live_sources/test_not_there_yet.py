"""Cameras that are not there when a stream begins."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import stamped
from leaks import nothing_left
from live_server import ABSENT, LiveServer
from server_process import free_port

from pixelrt.errors import SourceError, UnusableSource
from pixelrt.segmentation import Segmenter
from pixelrt.testing import fake_segmenter
from pixelrt.video.events import Event
from pixelrt.video.frame import Bytes
from pixelrt.video.sources import open_source

QUICK = "backoff=0.05&backoff_most=0.1"
PATIENCE_S = 30


@pytest.fixture
def network() -> Iterator[Segmenter]:
    with fake_segmenter(lambda frame: np.zeros(frame.shape[:2], np.uint8), size=stamped.SIZE) as segmenter:
        yield segmenter


@pytest.fixture
def address() -> str:
    return f"tcp://127.0.0.1:{free_port()}"


def until(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def server_at(address: str) -> LiveServer:
    return LiveServer("tcp", int(address.rpartition(":")[2]), fps=50, gop=5)


def other_camera() -> Iterator[Bytes]:
    """Frames for ever."""
    while True:
        time.sleep(0.02)
        yield np.zeros((*stamped.SIZE, 3), np.uint8)


@pytest.mark.parametrize("how", ["asked for", "detached"])
def test_the_others_run_meanwhile_and_it_joins_them(
    network: Segmenter, address: str, how: str, tmp_path: Path
) -> None:
    events: list[Event] = []
    camera = f"{address}#{QUICK}" + ("&wait=yes" if how == "asked for" else "")
    with (
        nothing_left(),
        network.stream(
            [camera, other_camera()],
            on_source_error="stop" if how == "asked for" else "detach",
            on_event=events.append,
            sinks=[f"{tmp_path}/{{source}}.mp4"],
        ) as stream,
    ):
        late, there = stream.sources
        assert (late.live, late.size) == (True, (0, 0))
        results = iter(stream)
        assert {frame.source for frame, _ in islice(results, 3)} == {there.name}
        until(lambda: stream.sources[0].health.state == "reconnecting")
        assert "refused" in stream.health.why
        assert stream.health.state == "reconnecting"
        with server_at(address):
            while next(results).frame.source != late.name:
                pass
        assert stream.sources[0].size == stamped.SIZE
        assert stream.statistics().sources[0].reconnects == 0, "it was never there before"
    for name in (late.name, there.name):
        with open_source(tmp_path / f"{name}.mp4") as film:
            assert film.size == stamped.SIZE
    of_late = [event.kind for event in events if event.source == late.name]
    assert of_late[0] == "reconnecting"
    assert "connected" in of_late


def test_one_that_never_comes_is_let_go_of_at_once(network: Segmenter, address: str) -> None:
    stream = network.stream(f"{address}#backoff=3600&backoff_most=3600&wait=yes")

    def close() -> None:
        until(lambda: stream.health.state == "reconnecting")
        stream.close()

    with nothing_left():
        closing = threading.Thread(target=close)
        closing.start()
        assert list(stream) == []
        closing.join()


def test_an_event_loop_goes_on_meanwhile(network: Segmenter, address: str) -> None:
    async def count() -> int:
        ticks = 0
        async with network.stream(f"{address}#{QUICK}&wait=yes") as stream:
            taking = asyncio.ensure_future(anext(aiter(stream)))
            while stream.health.state != "reconnecting":
                await asyncio.sleep(0.01)
                ticks += 1
            with await asyncio.to_thread(server_at, address):
                await taking
        return ticks

    with nothing_left():
        assert asyncio.run(count()) > 0


def test_a_file_is_not_waited_for(network: Segmenter, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="does not exist"):
        network.stream([f"{tmp_path}/none.mp4", other_camera()], on_source_error="detach")


def test_what_refuses_is_left_out_and_told_at_the_end(network: Segmenter) -> None:
    with LiveServer("http", fps=50) as server, nothing_left():
        camera = f"{server.url}/secret/mjpeg#wait=yes"
        frames = (np.zeros((*stamped.SIZE, 3), np.uint8) for _ in range(5))
        stream = network.stream([camera, frames], on_source_error="detach", policy="all")
        results = []
        with pytest.raises(SourceError, match=r"a user and a password.*401"):
            results.extend(stream)
        assert len(results) == 5


def test_a_path_that_a_relay_has_not_yet_is_waited_for() -> None:
    """It answers 404 until somebody sends there."""
    with LiveServer("http", fps=50) as server, nothing_left():
        events: list[Event] = []
        with open_source(f"{server.url}/later/mjpeg#{QUICK}&wait=yes") as source:
            source.on_event = events.append
            frames = [stamped.read(frame.image) for frame in islice(source, 3)]
    assert all(frames)
    assert [event.kind for event in events] == ["reconnecting"] * ABSENT + ["connected"]
    assert "nothing at that path (404)" in events[0].detail
    assert "wait=yes" not in events[0].detail


@pytest.mark.parametrize("options", ["", "#wait=yes", "?token=1#live=no"])
def test_a_film_that_the_server_does_not_have_is_not_waited_for(network: Segmenter, options: str) -> None:
    given: list[object] = []
    with nothing_left(), LiveServer("http") as server:
        typo = f"{server.url}/{'typo' if 'live' in options else 'typo.mp4'}{options}"
        frames = (np.zeros((*stamped.SIZE, 3), np.uint8) for _ in range(5))
        with (
            pytest.raises(UnusableSource, match=r"/typo.*: .* nothing at that path \(404\); is it spelt"),
            network.stream([frames, typo], on_source_error="detach", policy="all") as stream,
        ):
            closing = threading.Timer(PATIENCE_S, stream.close)
            closing.start()
            try:
                given.extend(stream)
            finally:
                closing.cancel()
                closing.join()
    assert len(given) == (5 if options == "#wait=yes" else 0), "opened first, or by the iteration"


def test_arrays_are_asked_once_however_bad_they_are(network: Segmenter) -> None:
    images = iter([np.zeros((8, 8, 3), np.float32), *[np.zeros((*stamped.SIZE, 3), np.uint8)] * 2])
    with pytest.raises(SourceError, match="float32"):
        network.stream(images, on_source_error="detach")
    assert len(list(images)) == 2
