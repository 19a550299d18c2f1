"""What Prometheus reads, over a real connection."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import re
import socket
import struct
import threading
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from interrupting import interrupt_started_threads
from live import Camera, network
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families
from views import FRONT, STATISTICS, View

from pixelrt.errors import InputError
from pixelrt.video.live import metrics
from pixelrt.video.live.metrics import MetricsServer, Place
from pixelrt.video.live.statistics import DROPS, LOSSES

ANY = Place("127.0.0.1", 0)
Labels = Mapping[str, str]


def serving(view: View, info: Labels | None = None) -> MetricsServer:
    server = MetricsServer(ANY)
    server.answer(view, info)
    return server


def read(url: str, accept: str = "text/plain") -> str:
    request = urllib.request.Request(url, headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=20) as answer:
        return str(answer.read().decode())


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_every_figure_is_there() -> None:
    view = View()
    with serving(view, {"bundle": "road"}) as server:
        found = samples(read(server.url))

    def value(name: str, **labels: str) -> float:
        return found[f"pixelrt_{name}", tuple(sorted(labels.items()))]

    assert value("info", bundle="road") == 1
    assert value("stream_seconds") == 12.5
    assert value("frames_captured_total", source="front") == 120
    assert value("frames_delivered_total", source="rear") == 100
    assert value("frames_dropped_total", source="front", reason="newer") == 15
    assert value("frames_dropped_total", source="front", reason="deadline") == 3
    assert value("frames_lost_total", source="front", reason="damaged") == 4
    assert value("source_reconnects_total", source="rear") == 1
    assert value("frames_in_flight", source="front") == 2
    assert value("queue_depth", source="front") == 1
    assert value("source_ended", source="front") == 0
    assert value("captured_frames_per_second", source="front") == 30
    assert value("delivered_frames_per_second", source="front") == 25
    assert value("sink_written_total", sink="out.mp4") == 95
    assert value("sink_dropped_total", sink="web") == 95
    assert value("sink_queue_depth", sink="out.mp4") == 2
    assert (value("sink_failed", sink="out.mp4"), value("sink_failed", sink="web")) == (0, 1)
    assert value("stage_duration_seconds", stage="network", quantile="0.99") == pytest.approx(0.033)
    assert value("stage_duration_seconds_sum", stage="network") == pytest.approx(1.0)
    assert value("stage_duration_seconds_count", stage="capture to delivery") == 100


def test_the_name_of_the_address_is_not_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no name server answers that takes half a minute."""

    def look_up(*_: object) -> str:
        raise AssertionError("a name server was asked")

    monkeypatch.setattr(socket, "getfqdn", look_up)
    with serving(View()) as server:
        assert samples(read(server.url))


def test_health_is_one_state_of_all() -> None:
    with serving(View()) as server:
        found = samples(read(server.url))
    for name, labels, state in (
        ("pixelrt_stream_health", {}, "reconnecting"),
        ("pixelrt_source_health", {"source": "front"}, "ok"),
        ("pixelrt_source_health", {"source": "rear"}, "reconnecting"),
    ):
        states = {
            dict(key)["state"]: value
            for (sample, key), value in found.items()
            if sample == name and labels.items() <= dict(key).items()
        }
        assert {one for one, value in states.items() if value == 1} == {state}
        assert set(states) == {"ok", "overloaded", "stalled", "reconnecting", "failed"}


def test_every_counter_is_there_from_the_start() -> None:
    """So that the first frame that is lost has a rate."""
    stream = network().stream([Camera(1, live=False, name="front"), Camera(1, live=False, name="rear")])
    with stream, MetricsServer(ANY) as server:
        server.answer(stream)
        before = counters(read(server.url))
        stream.run()
        after = counters(read(server.url))
    assert set(before.values()) == {0}
    assert before.keys() == after.keys()
    for source in ("front", "rear"):
        for name, reasons in (("dropped", DROPS), ("lost", LOSSES)):
            for reason in reasons:
                labels = (("reason", reason), ("source", source))
                assert (f"pixelrt_frames_{name}_total", labels) in before


def counters(text: str) -> dict[Any, float]:
    return {key: value for key, value in samples(text).items() if key[0].endswith("_total")}


def test_a_reason_of_ones_own_is_there_too() -> None:
    now = dataclasses.replace(STATISTICS, sources=(dataclasses.replace(FRONT, lost={"fogged": 2}),))
    with serving(View(now)) as server:
        found = samples(read(server.url))
    assert found["pixelrt_frames_lost_total", (("reason", "fogged"), ("source", "front"))] == 2
    assert found["pixelrt_frames_lost_total", (("reason", "damaged"), ("source", "front"))] == 0


def test_names_follow_the_rules_of_prometheus() -> None:
    """Those that `promtool check metrics` looks at."""
    with serving(View(), {"bundle": "road"}) as server:
        text = read(server.url)
    families = list(text_string_to_metric_families(text))
    assert len({family.name for family in families}) == len(families)
    for family in families:
        assert re.fullmatch(r"pixelrt(_[a-z]+)+", family.name), "lower case, one prefix"
        assert re.fullmatch(r"[A-Z1].*\.", family.documentation), "help, as a sentence"
        assert not re.search(
            "_(ms|millis|milliseconds|minutes|percent|bytes_per|count|sum|bucket)$", family.name
        )
        for sample in family.samples:
            assert (family.type == "counter") == sample.name.endswith("_total"), sample.name
            assert all(re.fullmatch("[a-z]+", label) for label in sample.labels), sample.labels
            assert ("quantile" in sample.labels) <= (family.type == "summary")
            assert math.isfinite(sample.value)


def test_figures_are_read_when_they_are_asked_for() -> None:
    view = View()
    with serving(view) as server:
        first = samples(read(server.url))
        view.now = dataclasses.replace(STATISTICS, seconds=13.0)
        second = samples(read(server.url))
    assert (first["pixelrt_stream_seconds", ()], second["pixelrt_stream_seconds", ()]) == (12.5, 13.0)


def test_a_source_that_has_ended() -> None:
    ended = dataclasses.replace(STATISTICS.sources[0], ended=True)
    now = dataclasses.replace(STATISTICS, sources=(ended, STATISTICS.sources[1]))
    with serving(View(now)) as server:
        found = samples(read(server.url))
    assert [found["pixelrt_source_ended", (("source", name),)] for name in ("front", "rear")] == [1, 0]


def test_the_address_is_taken_before_there_is_a_stream() -> None:
    with MetricsServer(ANY) as server:
        with pytest.raises(InputError, match="cannot listen at"):
            MetricsServer(server.place)
        asking = threading.Thread(target=lambda: answers.append(read(server.url)))
        answers: list[str] = []
        asking.start()
        server.answer(View())
        asking.join(20)
        assert "pixelrt_stream_seconds 12.5" in answers[0]
    with MetricsServer(ANY):
        pass  # one that never answers ends, too


def test_the_other_format_is_valid_too() -> None:
    with serving(View(), {"bundle": 'a"b\\c\n'}) as server:
        text = read(server.url, "application/openmetrics-text; version=1.0.0")
    families = {family.name: family for family in openmetrics.text_string_to_metric_families(text)}
    assert families["pixelrt_frames_dropped"].type == "counter"
    assert families["pixelrt_source_health"].type == "gauge"
    assert families["pixelrt_stage_duration_seconds"].type == "summary"
    assert families["pixelrt"].samples[0].labels == {"bundle": 'a"b\\c\n'}


def test_before_the_first_frame() -> None:
    nothing = dataclasses.replace(STATISTICS, stages={}, recent={}, sinks=())
    with serving(View(nothing)) as server:
        assert "pixelrt_stage_duration_seconds{" not in read(server.url)


def connected(server: MetricsServer) -> socket.socket:
    return socket.create_connection((server.place.host, server.place.port), timeout=20)


@contextlib.contextmanager
def trickling(server: MetricsServer) -> Iterator[socket.socket]:
    """A client whose request goes on for ever, a byte at a time."""
    over = threading.Event()

    def run() -> None:
        with contextlib.suppress(OSError):
            while not over.wait(0.05):
                client.sendall(b"a")

    with connected(server) as client:
        client.sendall(b"GET /metrics HTTP/1.1\r\nX: ")
        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield client
        finally:
            over.set()
            thread.join()


@pytest.mark.parametrize("connect", [connected, trickling])
def test_no_client_holds_the_end_up(connect: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "_REQUEST_S", 1000.0)
    before = set(threading.enumerate())
    server = serving(View())
    with connect(server) as client:
        read(server.url)
        clients = set(threading.enumerate()) - before
        server.close()
        assert is_cut(client)
        with pytest.raises(ConnectionRefusedError):
            connected(server)
    assert clients and not clients & set(threading.enumerate())


@pytest.mark.parametrize("connect", [connected, trickling])
def test_a_client_that_does_not_come_to_its_end_is_cut(
    connect: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(metrics, "_REQUEST_S", 0.3)
    with serving(View()) as server, connect(server) as client:
        assert is_cut(client)
        assert "pixelrt_stream_seconds 12.5" in read(server.url)
    assert capfd.readouterr().err == ""


def test_a_client_that_goes_in_the_middle_is_not_reported(capfd: pytest.CaptureFixture[str]) -> None:
    with serving(View()) as server:
        with connected(server) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # RST
            client.sendall(b"GET /metrics HT")
        assert "pixelrt_stream_seconds 12.5" in read(server.url)
    assert capfd.readouterr().err == ""


def test_silent_clients_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "_REQUEST_S", 1000.0)
    with serving(View()) as server, contextlib.ExitStack() as everybody:
        silent = [everybody.enter_context(connected(server)) for _ in range(metrics._MOST_CLIENTS + 4)]
        assert all(is_cut(client) for client in silent[:4])
        assert "pixelrt_stream_seconds 12.5" in read(server.url)


def is_cut(client: socket.socket) -> bool:
    """Whether the server ends it, perhaps after an answer."""
    try:
        while client.recv(65536):
            pass
    except ConnectionError:
        pass
    return True


def test_two_streams_in_one_process() -> None:
    with serving(View()) as one, serving(View()) as other:
        assert one.place != other.place
        assert read(one.url) == read(other.url)


def test_a_place_that_is_taken() -> None:
    refusal = pytest.raises(InputError, match=r"cannot listen at 127\.0\.0\.1:")
    with serving(View()) as server, refusal:
        MetricsServer(server.place)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (":9090", Place("127.0.0.1", 9090)),
        ("0.0.0.0:80", Place("0.0.0.0", 80)),
        ("robot.local:1", Place("robot.local", 1)),
        ("[::1]:9090", Place("::1", 9090)),
    ],
)
def test_places(text: str, place: Place) -> None:
    assert Place.parse(text) == place
    assert Place.parse(str(place)) == place


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("9090", "did you mean :9090"),
        ("", ""),
        (":", ""),
        (":99999", ""),
        ("http://a:1", ""),
        ("::1:9090", ""),
    ],
)
def test_places_that_are_none(text: str, hint: str) -> None:
    with pytest.raises(InputError, match=r"is no address, expected \[HOST\]:PORT such as :9090.*" + hint):
        Place.parse(text)


def test_ctrl_c_as_it_begins_to_answer_does_not_keep_it_from_closing(monkeypatch: pytest.MonkeyPatch) -> None:
    server = MetricsServer(ANY)
    interrupt_started_threads(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        server.answer(View())
    server.close()
    assert "pixelrt-metrics" not in [thread.name for thread in threading.enumerate()]
