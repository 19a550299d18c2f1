"""Network cameras in the live loop."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, defaultdict
from itertools import islice
from pathlib import Path

import needs
import numpy as np
import stamped
from film import Seen, check, seen
from leaks import memory_mib, nothing_left
from live import MOST_UNDER_WAY
from mcap.reader import make_reader
from rtsp_server import RtspServer
from witness import check_run, witnesses

from pixelrt.segmentation import Segmenter
from pixelrt.testing import fake_segmenter
from pixelrt.video.events import Event
from pixelrt.video.frame import Frame
from pixelrt.video.sinks import open_sink
from pixelrt.video.sources import open_source

log = logging.getLogger(__name__)
LIVES, CAMERAS = 20, 16
DEATHS, SIZES = 4, 12
SETTLED = 2
"""Rounds of a fault after which memory may grow no more."""
MOST_MIB = 15
"""By what is no leak: threads that come and go leave the allocator's pools behind, larger or smaller."""
QUICK = "backoff=0.05&backoff_most=0.2&connect=2"


def network() -> Segmenter:
    return fake_segmenter(lambda frame: np.zeros(frame.shape[:2], np.uint8), size=stamped.SIZE)


class Killer(threading.Thread):
    """Kills a server and starts it again, each time after frames of its present life came."""

    def __init__(self, server: RtspServer) -> None:
        super().__init__(name="killer")
        self.server, self.ready_s = server, [time.monotonic()]
        self.fed = threading.Semaphore(0)
        self.start()

    def run(self) -> None:
        for _ in range(LIVES):
            if not self.fed.acquire(timeout=60):
                return
            self.server.kill()
            self.server.start()
            self.ready_s.append(time.monotonic())


def test_a_server_that_is_killed_and_started_twenty_times() -> None:
    needs.gst_rtsp_server()
    with RtspServer(fps=30, gop=10, every=True) as server, nothing_left():
        frames: list[Seen] = []
        events: list[Event] = []
        memory: list[float] = []
        first_s: list[float] = []
        with (
            network() as segmenter,
            segmenter.stream(f"{server.url}#{QUICK}", on_event=events.append, stall=60) as stream,
        ):
            (witness,) = witnesses(stream)
            killer = Killer(server)
            results = iter(stream)
            for life in range(LIVES + 1):
                for frame, _ in results:
                    frames.append(seen(frame))
                    if stream.statistics().sources[0].reconnects == life:
                        break
                first_s.append(time.monotonic())
                frames.extend(seen(frame) for frame, _ in islice(results, 6))
                memory.append(memory_mib())
                killer.fed.release()
            killer.join()
            stream.close()
            statistics = stream.statistics().sources[0]
    check_run(statistics, witness, frames)
    kinds = Counter(event.kind for event in events)
    back_s = sorted(first - ready for first, ready in zip(first_s[1:], killer.ready_s[1:], strict=True))
    log.info(
        "%d kills: %d results; server ready to first result p50 %.2f s, max %.2f s; memory %.1f -> %.1f MiB",
        *(LIVES, len(frames), back_s[LIVES // 2], back_s[-1], memory[SETTLED], memory[-1]),
    )
    log.info("events %s, %s", dict(kinds), statistics)
    for event in events:
        if event.kind == "reconnecting" and event.attempt > 1 and "refused" not in event.detail:
            log.info("try %d after: %s", event.attempt, event.detail)
    assert statistics.reconnects == LIVES
    assert kinds["connected"] == LIVES + 1
    assert kinds["lost"] + kinds["stalled"] == LIVES
    assert kinds["reconnecting"] >= LIVES
    assert memory[-1] - memory[SETTLED] < MOST_MIB


def test_sixteen_cameras_at_once_of_which_all_die_and_come_back() -> None:
    needs.gst_rtsp_server()
    with RtspServer(fps=8, gop=4, every=True) as server, nothing_left():
        frames: dict[str, list[Seen]] = defaultdict(list)
        events: list[Event] = []
        memory: list[float] = []
        urls = [f"{server.url}?channel={number}#{QUICK}&stall=40" for number in range(CAMERAS)]
        with network() as segmenter, segmenter.stream(urls, on_event=events.append, stall=60) as stream:
            given = witnesses(stream)
            results = iter(stream)  # its end would be that of the stream
            for deaths in range(DEATHS + 1):
                came: Counter[str] = Counter()
                for frame, _ in results:
                    frames[frame.source].append(seen(frame))
                    sources = stream.statistics().sources
                    back = [source.name for source in sources if source.reconnects >= deaths]
                    came.update([frame.source] if frame.source in back else [])
                    if len(came) == CAMERAS and min(came.values()) >= 3:
                        break
                memory.append(memory_mib())
                if deaths < DEATHS:
                    server.kill()
                    server.start()
            server.tell("stall")
            time.sleep(1)  # what is on its way arrives
            began_s = time.monotonic()
            stream.close()
            closed_s = time.monotonic() - began_s
            sources = stream.statistics().sources
    assert closed_s < 10, "every connection is hung up on; FFmpeg's own patience is 40 s"
    assert len(frames) == CAMERAS
    for source, witness in zip(sources, given, strict=True):
        check_run(source, witness, frames[source.name])
    log.info(
        "%d cameras: %d results, events %s, closed in %.2f s; memory %s MiB",
        *(CAMERAS, sum(map(len, frames.values())), dict(Counter(event.kind for event in events)), closed_s),
        [round(each, 1) for each in memory],
    )
    assert memory[-1] - memory[SETTLED] < MOST_MIB


def test_a_stream_that_stalls_is_closed_at_once() -> None:
    needs.gst_rtsp_server()
    with RtspServer(fps=20) as server, nothing_left(), network() as segmenter:
        with segmenter.stream(f"{server.url}#stall=30", stall=0.5) as stream:
            results = iter(stream)  # its end would be that of the stream
            next(results)
            server.tell("stall")
            until_s = time.monotonic() + 10
            while stream.health.state != "stalled" and time.monotonic() < until_s:
                time.sleep(0.02)
            assert stream.health.state == "stalled"
            began_s = time.monotonic()
        closed_s = time.monotonic() - began_s
        del results
        log.info("a stalled stream: closed in %.2f s", closed_s)
        assert closed_s < 10


def test_a_camera_that_changes_its_size_while_it_is_recorded(tmp_path: Path) -> None:
    needs.gst_rtsp_server()
    events: list[Event] = []
    with RtspServer(fps=20, gop=5, every=True) as server, nothing_left(), network() as segmenter:
        source = open_source(f"{server.url}#connect=20")
        sinks = [open_sink(f"{tmp_path}/{name}", source) for name in ("out.mp4", "out.mcap?quality=95")]
        with segmenter.stream(source, policy="all", sinks=sinks, on_event=events.append, stall=60) as stream:
            (witness,) = witnesses(stream)
            results = iter(stream)
            frames = [seen(frame) for frame, _ in islice(results, 12)]
            server.tell("resize 480x640")
            for frame, _ in results:
                frames.append(seen(frame))
                if len([one for one in frames if one.size == (480, 640)]) >= 12:
                    break
        figures = stream.statistics()
    (account,) = figures.sources
    check_run(account, witness, frames, stopped=MOST_UNDER_WAY)
    assert set(account.dropped) <= {"stopped"}
    sizes = [frame.size for frame in frames]
    assert sizes == sorted(sizes), "once"
    assert [event.kind for event in events if event.kind in ("resized", "failed", "sink_failed")] == [
        "resized"
    ]
    film, log = figures.sinks
    parts = [tmp_path / "out.mp4", tmp_path / "out-2.mp4"]
    assert sorted(tmp_path.glob("*.mp4")) == sorted(parts)
    shapes = [[frame.size for frame in recorded(part)] for part in parts]
    assert [set(shape) for shape in shapes] == [{(240, 320)}, {(480, 640)}], "one part for each size"
    assert sum(map(len, shapes)) == film.written
    (topic,) = [topic for topic in topics(tmp_path / "out.mcap") if topic.endswith("/camera")]
    logged = [seen(frame) for frame in recorded(f"{tmp_path}/out.mcap?topic={topic}")]
    check(logged)
    assert len(logged) == log.written
    assert {frame.size for frame in logged} == {(240, 320), (480, 640)}
    assert {frame.stamp for frame in frames} <= {frame.stamp for frame in logged}


def test_a_camera_that_changes_its_size_again_and_again() -> None:
    needs.gst_rtsp_server()
    events: list[Event] = []
    frames: list[Seen] = []
    memory: list[float] = []
    with (
        RtspServer(fps=30, gop=5, every=True) as server,
        nothing_left(),
        network() as segmenter,
        segmenter.stream(f"{server.url}#connect=20", on_event=events.append, stall=60) as stream,
    ):
        (witness,) = witnesses(stream)
        results = iter(stream)
        for number in range(SIZES):
            rows, cols = (480, 640) if number % 2 else stamped.SIZE
            server.tell(f"resize {rows}x{cols}")
            for frame, _ in results:
                frames.append(seen(frame))
                if [one.size for one in frames[-6:]] == [(rows, cols)] * 6:
                    break
            memory.append(memory_mib())
    (figures,) = stream.statistics().sources
    check_run(figures, witness, frames)
    assert [event.kind for event in events] == ["connected", *["resized"] * (SIZES - 1)]
    log.info("%d sizes: %d results, memory %s MiB", SIZES, len(frames), [round(each, 1) for each in memory])
    assert memory[-1] - memory[2 * SETTLED] < MOST_MIB


def recorded(path: Path | str) -> list[Frame]:
    with open_source(path) as source:
        return list(source)


def topics(log: Path) -> list[str]:
    with log.open("rb") as stream:
        summary = make_reader(stream).get_summary()
        assert summary is not None
        return [channel.topic for channel in summary.channels.values()]
