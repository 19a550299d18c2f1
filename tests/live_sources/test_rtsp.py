"""RTSP from GStreamer's server in another process."""

from __future__ import annotations

import errno
import logging
import socket
import statistics
import time
from collections.abc import Iterator
from itertools import islice, pairwise
from pathlib import Path

import needs
import numpy as np
import pytest
import stamped
from leaks import nothing_left
from live_server import LiveServer
from rtsp_server import RtspServer
from server_process import free_port

from pixelrt.errors import SourceError, UnusableSource
from pixelrt.video.events import Event
from pixelrt.video.sources import open_source

log = logging.getLogger(__name__)


@pytest.fixture(scope="module")
def camera() -> Iterator[RtspServer]:
    needs.gst_rtsp_server()
    with RtspServer(fps=50) as server:
        yield server


@pytest.fixture(scope="module")
def guarded() -> Iterator[RtspServer]:
    needs.gst_rtsp_server()
    with RtspServer(fps=50, user="robot", password="pa@s#s/1") as server:
        yield server


@pytest.mark.parametrize("transport", ["tcp", "udp", "auto"])
def test_frames_come_in_order_each_once_with_their_times(camera: RtspServer, transport: str) -> None:
    with nothing_left(), open_source(f"{camera.url}#transport={transport}") as source:
        assert (source.size, source.fps, source.live, source.num_frames) == (stamped.SIZE, 50.0, True, None)
        stamps, ages_ms, waits_ms, clocks = [], [], [], []
        for frame in islice(source, 40):
            now_s, stamp = time.monotonic(), stamped.read(frame.image)
            assert stamp is not None
            assert frame.index == len(stamps)
            stamps.append(stamp.index)
            ages_ms.append(stamp.age_ms(now_s))
            waits_ms.append(stamp.age_ms(frame.captured_s))
            if frame.clock_s is not None:
                clocks.append(frame.clock_s - (time.time() - time.monotonic() + stamp.drawn_s))
            assert frame.captured_s <= now_s
    assert all(before < after for before, after in pairwise(stamps))
    log.info(
        "rtsp %s: drawn to delivered p50 %.1f ms, max %.1f; to captured_s p50 %.1f ms; %d of 40 with clock_s",
        *(transport, statistics.median(ages_ms[10:]), max(ages_ms[10:])),
        *(statistics.median(waits_ms[10:]), len(clocks)),
    )
    assert statistics.median(waits_ms[10:]) > -5, "captured before it was drawn"
    assert all(abs(clock) < 0.5 for clock in clocks), "the camera's clock is this machine's"


def test_the_camera_clock_comes_from_its_reports(camera: RtspServer) -> None:
    """The server sends the first report within some seconds."""
    with open_source(camera.url) as source:
        until_s = time.monotonic() + 20
        for frame in source:
            assert time.monotonic() < until_s
            if frame.clock_s is not None:
                break
        stamp = stamped.read(frame.image)
        assert stamp is not None
        drawn_clock_s = time.time() - time.monotonic() + stamp.drawn_s
        assert frame.clock_s == pytest.approx(drawn_clock_s, abs=0.2)


def test_colors_come_in_the_order_that_is_asked_for(camera: RtspServer) -> None:
    means = {}
    for color in ("rgb", "bgr"):
        with open_source(camera.url, color=color) as source:
            frame = next(iter(source))
            assert frame.color == color
            assert stamped.read(frame.image) is not None
            means[color] = frame.image[stamped.ROWS_PX :].mean((0, 1))
    assert means["rgb"][2] == pytest.approx(40, abs=12), "blue is 40 everywhere"
    assert means["bgr"][0] == pytest.approx(40, abs=12)


def test_motion_jpeg_is_decoded_at_once() -> None:
    needs.gst_rtsp_server()
    with RtspServer(codec="mjpeg", fps=20) as server, open_source(f"{server.url}", fps=20) as source:
        ages = [stamped.read(frame.image) for frame in islice(source, 20)]
        assert all(ages)
        assert source.fps == 20


def test_a_size_that_changes_is_told_and_delivered() -> None:
    needs.gst_rtsp_server()
    with RtspServer(fps=50, gop=10) as server, nothing_left(), open_source(server.url) as source:
        events: list[Event] = []
        source.on_event = events.append
        iterator = iter(source)
        for _ in islice(iterator, 10):
            pass
        server.tell("resize 480x640")
        last, sizes = -1, []
        for frame in islice(iterator, 30):
            stamp = stamped.read(frame.image)
            assert stamp is not None, "a picture between two sizes"
            assert stamp.index > last
            last = stamp.index
            sizes.append(frame.size)
        assert (480, 640) in sizes
        assert sizes == sorted(sizes), "once"
        assert source.size == stamped.SIZE
        assert dict(source.losses).get("damaged", 0) == 0
    assert [event.kind for event in events] == ["connected", "resized"]
    assert events[1].detail == "frames are 480x640 now, they were 240x320"


def test_a_password_with_special_signs(guarded: RtspServer) -> None:
    url = guarded.url.replace("rtsp://", "rtsp://robot:pa%40s%23s%2F1@")
    with nothing_left(), open_source(url) as source:
        frame = next(iter(source))
        assert "pa%40" not in f"{source.name}{frame!r}{frame.name}{frame.source}"


def test_a_password_that_is_sent_as_a_digest() -> None:
    needs.gst_rtsp_server()
    with RtspServer(fps=50, user="robot", password="pass", digest=True) as server, nothing_left():
        with open_source(server.url.replace("rtsp://", "rtsp://robot:pass@")) as source:
            next(iter(source))
        with pytest.raises(SourceError, match="401"):
            open_source(server.url.replace("rtsp://", "rtsp://robot:past@"))


@pytest.mark.parametrize("user", ["", "robot:wrong@", "robot@"])
def test_a_wrong_password_is_said(guarded: RtspServer, user: str) -> None:
    url = guarded.url.replace("rtsp://", f"rtsp://{user}")
    with (
        nothing_left(),
        pytest.raises(UnusableSource, match=r"wants a user and a password, or refuses .*\(401\)") as told,
        open_source(f"{url}#wait=yes") as source,
    ):
        next(iter(source))
    assert "wrong" not in str(told.value)


def test_an_encrypted_camera(certificate: Path) -> None:
    needs.gst_rtsp_server()
    with RtspServer(fps=50, certificate=str(certificate)) as server, nothing_left():
        with pytest.raises(SourceError, match=r"no encrypted connection came about.*#verify=no"):
            open_source(server.url)
        with open_source(f"{server.url}#verify=no") as source:
            assert all(stamped.read(frame.image) for frame in islice(source, 5))


def test_a_wrong_path_is_said(camera: RtspServer) -> None:
    with nothing_left(), pytest.raises(SourceError, match=r"nothing at that path \(404\)"):
        open_source(f"{camera.url}/other")


def test_a_closed_port_is_said() -> None:
    with nothing_left(), pytest.raises(SourceError, match="connection refused: nothing listens on that port"):
        open_source(f"rtsp://127.0.0.1:{free_port()}/live")


def test_a_network_that_cannot_be_reached_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket.socket, "connect_ex", lambda *_: errno.ENETUNREACH)
    with nothing_left(), pytest.raises(SourceError, match=r"10\.0\.0\.1 cannot be reached from here"):
        open_source("rtsp://10.0.0.1/live")


def test_what_the_host_answers_at_one_address_counts_more_than_an_address_out_of_reach(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As with IPv6, where only IPv4 is set up."""
    answers = iter([errno.ECONNREFUSED, errno.ENETUNREACH])
    monkeypatch.setattr(socket.socket, "connect_ex", lambda *_: next(answers))
    address = (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 554))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [address, address])
    with nothing_left(), pytest.raises(SourceError, match="connection refused"):
        open_source("rtsp://camera/live")
    assert list(answers) == []


def test_an_unknown_name_is_said() -> None:
    with (
        nothing_left(),
        pytest.raises(SourceError, match=r"no host of the name nowhere\.invalid is known here"),
    ):
        open_source("rtsp://nowhere.invalid/live")


def test_a_port_that_speaks_something_else_is_said() -> None:
    with (
        LiveServer("http") as server,
        nothing_left(),
        pytest.raises(SourceError, match="answers, and not in RTSP"),
    ):
        open_source(f"rtsp://127.0.0.1:{server.port}/live")


def test_a_slow_reader_gets_new_pictures_and_the_rest_is_counted(camera: RtspServer) -> None:
    with nothing_left(), open_source(camera.url) as source:
        ages_ms, stamps = [], []
        for frame in islice(source, 15):
            stamp = stamped.read(frame.image)
            assert stamp is not None
            ages_ms.append(stamp.age_ms(time.monotonic()))
            stamps.append(stamp.index)
            time.sleep(0.12)
        missed = stamps[-1] - stamps[0] + 1 - len(stamps)
        log.info("slow reader (120 ms): age p50 %.0f ms, max %.0f", np.median(ages_ms), max(ages_ms[3:]))
        assert missed > 20, "it was slow"
        assert source.losses["replaced"] > missed / 2, "but those that the server left out"
        assert np.median(ages_ms[-10:]) < 1000, "no backlog"


def test_a_reader_that_was_away_goes_on_with_the_newest() -> None:
    needs.gst_rtsp_server()
    with RtspServer(fps=25, gop=10) as server, open_source(server.url) as source:
        iterator = iter(source)
        before = stamped.read(next(iterator).image)
        time.sleep(2)
        after = stamped.read(next(iterator).image)
        assert before is not None
        assert after is not None
        assert after.age_ms(time.monotonic()) < 1500
        assert source.losses["replaced"] > 20
