"""HTTP, TCP and UDP from servers in another process."""

from __future__ import annotations

import logging
import socket
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import islice, pairwise
from pathlib import Path

import av
import pytest
import stamped
from fault_proxy import fault_proxy, lossy_relay
from film import Seen, check, seen
from leaks import nothing_left
from live_server import PASSWORD, SHORT_FRAMES, USER, LiveServer
from server_process import free_port
from transport_streams import sending, transport_stream

from pixelrt.errors import SourceError, SourceStalled
from pixelrt.video.events import Event
from pixelrt.video.sources import open_source
from pixelrt.video.sources.base import SourceOptions
from pixelrt.video.sources.network.connection import connected
from pixelrt.video.sources.network.line import Opening
from pixelrt.video.sources.network.settings import read_settings

log = logging.getLogger(__name__)
SECRET = "robot:pass%2Bword%267@"
NETWORK = "pixelrt.video.sources.network"
PACE_FRAMES = 15
"""After so many the camera's pace is known, and a picture that is missing whole is noticed."""


@pytest.fixture(scope="module")
def http() -> Iterator[LiveServer]:
    with LiveServer("http", fps=50, gop=10) as server:
        yield server


@pytest.fixture(scope="module")
def tcp() -> Iterator[LiveServer]:
    with LiveServer("tcp", fps=50, gop=10) as server:
        yield server


def take(url: str, count: int, what: str) -> tuple[list[int], float]:
    """Indices of some pictures, and the median of ms from drawing to delivery; checks their order."""
    with nothing_left(), open_source(url) as source:
        stamps, ages_ms, waits_ms = [], [], []
        for frame in islice(source, count):
            stamp = stamped.read(frame.image)
            assert stamp is not None
            assert frame.index == len(stamps)
            stamps.append(stamp.index)
            ages_ms.append(stamp.age_ms(time.monotonic()))
            waits_ms.append(stamp.age_ms(frame.captured_s))
        assert source.live
    assert all(before < after for before, after in pairwise(stamps))
    age_ms, wait_ms = statistics.median(ages_ms[count // 4 :]), statistics.median(waits_ms[count // 4 :])
    log.info("%s: drawn to delivered p50 %.1f ms, to captured_s p50 %.1f ms", what, age_ms, wait_ms)
    assert wait_ms > -5, "captured before it was drawn"
    return stamps, age_ms


@pytest.mark.parametrize("path", ["/ts", "/mjpeg", "/moved/mjpeg"])
def test_http_frames_come_in_order(http: LiveServer, path: str) -> None:
    take(http.url + path, 25, f"http {path}")


def test_mjpeg_without_lengths() -> None:
    with LiveServer("http", fps=25, boundary_only=True) as server:
        take(f"{server.url}/mjpeg", 20, "http /mjpeg without Content-Length")


def test_times_of_mjpeg_are_those_of_arrival_at_any_rate() -> None:
    with LiveServer("http", fps=10) as server, open_source(f"{server.url}/mjpeg") as source:
        frames = [seen(frame) for frame in islice(source, 30)]
    check(frames)
    took_s = frames[-1].captured_s - frames[0].captured_s
    assert took_s > 2
    assert frames[-1].time_s == pytest.approx(took_s, abs=0.05)


def test_tcp_frames_come_in_order(tcp: LiveServer) -> None:
    take(tcp.url, 25, "tcp")


def test_h264_without_a_container_has_the_times_of_arrival_and_its_own_rate() -> None:
    with (
        LiveServer("tcp", fps=5, container="h264") as server,
        nothing_left(),
        open_source(server.url) as source,
    ):
        assert source.fps == 5
        frames = [seen(frame) for frame in islice(source, 15)]
    check(frames)
    assert frames[-1].time_s == pytest.approx(frames[-1].captured_s - frames[0].captured_s, abs=0.05)
    waits_ms = [frame.stamp.age_ms(frame.captured_s) for frame in frames if frame.stamp is not None]
    assert -5 < statistics.median(waits_ms) < 150, "a frame takes 200"


def test_udp_frames_come_in_order() -> None:
    with LiveServer("udp", fps=50, gop=10) as server:
        take(server.url, 25, "udp")


@pytest.mark.parametrize("kind", ["ts", "mp4"])
def test_a_file_is_read_whole_however_slowly_and_ends(http: LiveServer, kind: str) -> None:
    with nothing_left(), open_source(f"{http.url}/short.{kind}") as source:
        events: list[Event] = []
        source.on_event = events.append
        stamps = []
        for frame in source:
            stamp = stamped.read(frame.image)
            assert stamp is not None
            stamps.append(stamp.index)
            time.sleep(0.01)
        assert not source.live
        assert dict(source.losses) == {}
    assert stamps == list(range(SHORT_FRAMES))
    assert [event.kind for event in events] == ["connected", "ended"]


@pytest.mark.parametrize("kind", ["ts", "mp4"])
def test_times_of_a_file_are_its_own_however_it_is_read(http: LiveServer, kind: str) -> None:
    with open_source(f"{http.url}/short.{kind}") as source:
        iterator = iter(source)
        frames = [seen(next(iterator))]
        time.sleep(2.5)
        asked_s = time.monotonic()
        frames.extend(map(seen, iterator))
    assert [frame.time_s for frame in frames] == pytest.approx([index / 25 for index in range(SHORT_FRAMES)])
    assert frames[1].captured_s > asked_s, "its age begins when it was asked for"


def test_a_file_that_is_not_read_to_its_end_is_closed(http: LiveServer) -> None:
    with nothing_left(), open_source(f"{http.url}/short.mp4") as source:
        next(iter(source))


def test_a_password(http: LiveServer) -> None:
    assert (USER, PASSWORD) == ("robot", "pass+word&7")
    url = http.url.replace("http://", f"http://{SECRET}") + "/secret/mjpeg"
    take(url, 3, "http with a password")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/secret/mjpeg", r"wants a user and a password.*\(401\)"),
        ("/nothing", r"nothing at that path \(404\)"),
        ("/moved/nothing", r"nothing at that path \(404\)"),
        ("/text", r"no video"),
        ("/silent#connect=0.4", r"no answer within 0.4 s"),
    ],
)
def test_why_http_gives_nothing(http: LiveServer, path: str, message: str) -> None:
    with nothing_left(), pytest.raises(SourceError, match=message):
        open_source(http.url + path)


def test_waiting_for_its_turn_is_no_part_of_opening(
    http: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another connection to the same host has no socket yet: what comes later is not as old as that."""
    monkeypatch.setattr(f"{NETWORK}.line._TURN_S", 1.6)
    settings = read_settings(f"{http.url}/ts", SourceOptions())
    place, began_s = (settings.host, settings.port or 0), time.monotonic()
    with (
        nothing_left(),
        Opening(*place),
        connected(av, settings, Opening(*place), lambda: False) as connection,
    ):
        assert connection is not None
        assert connection.opened_s > began_s + 1.6
        assert 0 < connection.opening_s < time.monotonic() - connection.opened_s
    impatient = read_settings(f"{http.url}/text#connect=1.5", SourceOptions())
    with (
        nothing_left(),
        Opening(*place),
        pytest.raises(SourceError, match="no video"),
        connected(av, impatient, Opening(*place), lambda: False),
    ):
        pass


def test_a_connection_tells_its_times_how_long_opening_took(http: LiveServer) -> None:
    """What a second picture of half a minute later is behind by, beyond that, is in its time."""
    settings = read_settings(f"{http.url}/ts", SourceOptions())
    opening = Opening(settings.host, settings.port or 0)
    with nothing_left(), connected(av, settings, opening, lambda: False) as connection:
        assert connection is not None
        timeline, ended_s = connection.timeline(), connection.opened_s + connection.opening_s
        assert timeline.time_s(7.0, connection.opened_s) == 0
        assert timeline.time_s(7.04, ended_s + 30) == pytest.approx(29)


def test_a_certificate_that_nobody_knows_is_refused_unless_told(certificate: Path) -> None:
    with LiveServer("http", certificate=str(certificate)) as server:
        with (
            nothing_left(),
            pytest.raises(SourceError, match=r"no encrypted connection came about.*#verify=no"),
        ):
            open_source(f"{server.url}/mjpeg")
        take(f"{server.url}/mjpeg#verify=no", 5, "https")


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("http://127.0.0.1:{free}/ts", "connection refused"),
        ("tcp://127.0.0.1:{free}", "connection refused"),
        ("rtmp://127.0.0.1:{free}/live/camera", "connection refused"),
        ("udp://127.0.0.1:{free}#connect=0.4", "nothing came within 0.4 s"),
        ("http://nowhere.invalid/ts", r"no host of the name nowhere\.invalid"),
        ("https://127.0.0.1:{http}/ts", r"no encrypted connection came about.*#verify=no"),
    ],
)
def test_why_nothing_comes(http: LiveServer, address: str, message: str) -> None:
    with nothing_left(), pytest.raises(SourceError, match=message):
        open_source(address.format(free=free_port(), http=http.port))


def test_a_port_that_is_taken_is_said() -> None:
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        with (
            nothing_left(),
            pytest.raises(SourceError, match="another program on this machine receives on that port"),
        ):
            open_source(f"udp://127.0.0.1:{port}#connect=1")


def test_srt_says_that_this_ffmpeg_lacks_it() -> None:
    import av

    try:
        av.open("srt://127.0.0.1:1", timeout=0.1)
    except av.ProtocolNotFoundError:
        with pytest.raises(
            SourceError, match=r"was built without srt://; read the camera by another protocol"
        ):
            open_source("srt://127.0.0.1:9000")
    except av.FFmpegError:
        pytest.skip("this FFmpeg has SRT")


@pytest.mark.parametrize("path", ["/ts", "/mjpeg"])
def test_a_live_stream_that_breaks_is_made_again(http: LiveServer, path: str) -> None:
    with fault_proxy(http.port) as proxy, nothing_left():
        events: list[Event] = []
        with open_source(f"http://127.0.0.1:{proxy.port}{path}#backoff=0.05&backoff_most=0.1") as source:
            source.on_event = events.append
            iterator, stamps = iter(source), []
            for times in range(1, 4):
                stamps += [stamped.read(frame.image) for frame in islice(iterator, 6)]
                proxy.cut()
                while sum(event.kind == "lost" for event in events) < times:
                    stamps.append(stamped.read(next(iterator).image))
            stamps += [stamped.read(frame.image) for frame in islice(iterator, 6)]
    assert all(stamps), "a damaged picture"
    numbers = [stamp.index for stamp in stamps if stamp]
    assert all(before < after for before, after in pairwise(numbers))
    assert sum(event.kind == "connected" for event in events) == 4


def test_a_file_that_breaks_is_an_error(http: LiveServer) -> None:
    """It would begin from its start again, with frames that were delivered."""
    with fault_proxy(http.port) as proxy, nothing_left():
        proxy.cut_after = 20_000
        with open_source(f"http://127.0.0.1:{proxy.port}/short.ts") as source:
            frames, iterator = 0, iter(source)
            with pytest.raises(SourceError, match=r"the connection broke|ends too early"):
                for _ in iterator:
                    frames += 1
        assert 0 < frames < SHORT_FRAMES


def test_lost_datagrams_lose_pictures_and_damage_hardly_any() -> None:
    port = free_port(socket.SOCK_DGRAM)
    frames: list[Seen] = []
    with (
        nothing_left(),
        lossy_relay(port) as relay,
        LiveServer("udp", relay.port, fps=50, gop=10),
        open_source(f"udp://127.0.0.1:{port}") as source,
    ):
        for frame in source:
            frames.append(seen(frame))
            if len(frames) == PACE_FRAMES:
                relay.share = 0.04
            # What is lost where pictures are left out anyway damages none.
            noticed = relay.lost >= 5 and "damaged" in source.losses
            if len(frames) >= 100 and (noticed or relay.lost >= 50):
                break
        losses = dict(source.losses)
    wrong = sum(not new for new in newly_taken(frames))
    log.info("%d datagrams lost: %d frames, %d wrong unnoticed, %s", relay.lost, len(frames), wrong, losses)
    right = [
        frame if new else replace(frame, stamp=None)
        for frame, new in zip(frames, newly_taken(frames), strict=True)
    ]
    check(right, damage=True)
    assert losses.get("damaged", 0) > 0
    assert wrong <= len(frames) // 5, "more than two of ten times that a film begins anew"


def test_datagrams_that_a_slow_reader_leaves_are_not_damaged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is the time that it is away a stall."""
    monkeypatch.setattr(f"{NETWORK}.patience.KEYFRAME_S", 0.5)
    events: list[Event] = []
    with (
        nothing_left(),
        LiveServer("udp", fps=25, gop=5) as server,
        open_source(f"{server.url}#stall=1") as source,
    ):
        source.on_event = events.append
        iterator = iter(source)
        frames = [seen(next(iterator))]
        lost_before = Counter(source.losses)
        frames.extend(seen(frame) for frame in islice(iterator, PACE_FRAMES))
        for _ in range(4):
            time.sleep(1.3)
            frames.append(seen(next(iterator)))
        lost = Counter(source.losses) - lost_before
    check(frames)
    sent = round((frames[-1].time_s - frames[0].time_s) * 25)
    log.info("a reader that is away: %d pictures sent, %d taken, %s", sent, len(frames) - 1, dict(lost))
    assert [event.kind for event in events] == ["connected"]
    assert lost["replaced"] > 50, "it was slow"
    assert set(lost) == {"replaced"}
    assert len(frames) - 1 + lost["replaced"] == sent


def newly_taken(frames: Sequence[Seen]) -> list[bool]:
    """Which pictures are newer than all before: a decoder that misses one unnoticed repeats old ones."""
    newest, new = -1, []
    for frame in frames:
        index = -1 if frame.stamp is None else frame.stamp.index
        new.append(index > newest)
        newest = max(newest, index)
    return new


def test_sound_that_goes_on_hides_no_stall() -> None:
    port = free_port(socket.SOCK_DGRAM)
    with (
        nothing_left(),
        sending(transport_stream(40, sound_s=60), port) as sender,
        open_source(f"udp://127.0.0.1:{port}#stall=1&reconnect=no") as source,
    ):
        with pytest.raises(SourceStalled, match="no frame for 1 s, while audio still comes"):
            list(source)
        assert sender.is_alive()


def test_a_camera_whose_sound_is_switched_on_is_connected_again() -> None:
    """PyAV counts the streams when it begins, and fails at the end if there are more."""
    data = transport_stream(30) + transport_stream(30, sound_s=1)

    def serve() -> None:
        for _ in range(2):
            client, _ = server.accept()
            with client:
                client.sendall(data)

    events: list[Event] = []
    with closing(socket.create_server(("127.0.0.1", 0))) as server, nothing_left():
        serving = threading.Thread(target=serve)
        serving.start()
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}#backoff=0.05"
        with open_source(address) as source:
            source.on_event = events.append
            for _ in source:
                if any(event.kind == "reconnecting" for event in events):
                    break
        serving.join()
    kinds = [event.kind for event in events]
    assert kinds.index("lost") < kinds.index("reconnecting")


def test_sound_that_goes_on_does_not_hold_up_the_end() -> None:
    port = free_port(socket.SOCK_DGRAM)
    with nothing_left(), sending(transport_stream(40, sound_s=60), port) as sender:
        source = open_source(f"udp://127.0.0.1:{port}#stall=20")
        stopper = threading.Timer(3, source.interrupt)
        stopper.start()
        assert 0 < sum(1 for _ in source) < 40
        began_s = time.monotonic()
        source.close()
        assert time.monotonic() - began_s < 2
        assert sender.is_alive()
        stopper.join()


@pytest.mark.parametrize("stall_s", [0.6, 0.9])
def test_a_camera_that_never_sends_a_keyframe_is_told(
    monkeypatch: pytest.MonkeyPatch, stall_s: float
) -> None:
    monkeypatch.setattr(f"{NETWORK}.patience.KEYFRAME_S", 0.7)
    port = free_port(socket.SOCK_DGRAM)
    with nothing_left(), sending(transport_stream(200, gop=1000, keyframes=False), port) as sender:
        with pytest.raises(
            SourceStalled,
            match=rf"data come, and no picture for {max(stall_s, 0.7)} s "
            r"\(0 damaged, \d+ before a keyframe\); set the camera to a keyframe every few seconds.*#stall=",
        ):
            open_source(f"udp://127.0.0.1:{port}#stall={stall_s}")
        assert sender.is_alive()


def test_a_keyframe_may_be_further_away_than_a_stall() -> None:
    port, gop = free_port(socket.SOCK_DGRAM), 200
    with nothing_left(), sending(transport_stream(2 * gop, gop=gop), port):
        time.sleep(0.3)
        with open_source(f"udp://127.0.0.1:{port}#stall=1") as source:
            stamp = stamped.read(next(iter(source)).image)
            assert stamp is not None
            assert stamp.index == gop
            assert source.losses["unkeyed"] > gop // 2


def end_a_stall(url: str, stop: Callable[[], None]) -> float:
    """Seconds that closing takes after a stream has stalled and was interrupted."""
    source = open_source(url)
    iterator = iter(source)
    next(iterator)
    stop()
    stopper = threading.Timer(0.7, source.interrupt)
    stopper.start()
    for _ in iterator:
        pass
    stopper.join()
    ended_s = time.monotonic()
    source.close()
    return time.monotonic() - ended_s


@pytest.mark.parametrize("scheme", ["http", "tcp"])
def test_a_stalled_stream_is_closed_at_once(http: LiveServer, tcp: LiveServer, scheme: str) -> None:
    with fault_proxy(http.port if scheme == "http" else tcp.port) as proxy, nothing_left():
        url = f"{scheme}://127.0.0.1:{proxy.port}{'/ts' if scheme == 'http' else ''}#stall=20"
        closed_s = end_a_stall(url, lambda: setattr(proxy, "stall", True))
        log.info("%s, stalled: closed in %.3f s", scheme, closed_s)
        assert closed_s < 10, "it waits for FFmpeg"
        proxy.stall = False
        proxy.cut()


@pytest.mark.parametrize("scheme", ["http", "udp"])
def test_one_that_is_waited_for_and_silent_is_let_go_of_at_once(http: LiveServer, scheme: str) -> None:
    place = f"{http.url}/silent" if scheme == "http" else f"udp://127.0.0.1:{free_port()}"
    source = open_source(f"{place}#wait=yes&connect=4")
    taking = threading.Thread(target=lambda: list(source))
    taking.start()
    time.sleep(0.5)
    source.interrupt()
    taking.join()
    began_s = time.monotonic()
    source.close()
    assert time.monotonic() - began_s < 2, "it waits for FFmpeg"
    left = [thread for thread in threading.enumerate() if thread.name.startswith("read ")]
    assert scheme == "udp" or not left, "a TCP socket is shut down"
    for thread in left:
        thread.join(20)
        assert not thread.is_alive(), "it ends by itself"


def test_a_stalled_udp_stream_is_closed_when_ffmpeg_gives_up() -> None:
    with LiveServer("udp", fps=50, gop=10) as server:
        closed_s = end_a_stall(f"{server.url}#stall=1.5", server.kill)
    log.info("udp, stalled: closed in %.3f s", closed_s)
    assert closed_s < 10
