"""The statistics of a stream for Prometheus, over HTTP.

| metric | labels | what |
|---|---|---|
| `pixelrt_info` | bundle, backend, device, precision, version | what runs; always 1 |
| `pixelrt_stream_seconds` | | how long the stream has run |
| `pixelrt_stream_health` | state | 1 for the state it is in, 0 for the others |
| `pixelrt_source_health` | source, state | the same for a source |
| `pixelrt_source_ended` | source | 1 once it has no more frames |
| `pixelrt_frames_captured_total` | source | frames that a source gave |
| `pixelrt_frames_delivered_total` | source | results that were delivered |
| `pixelrt_frames_dropped_total` | source, reason | frames that were given and not delivered: `DROPS` |
| `pixelrt_frames_lost_total` | source, reason | frames that a source had and could not give: `LOSSES` |
| `pixelrt_frames_in_flight` | source | frames that are neither delivered nor dropped yet |
| `pixelrt_queue_depth` | source | frames that wait for the network |
| `pixelrt_source_reconnects_total` | source | how often the connection was made anew |
| `pixelrt_captured_frames_per_second` | source | over the last seconds |
| `pixelrt_delivered_frames_per_second` | source | over the last seconds |
| `pixelrt_stage_duration_seconds` | stage, quantile | quantiles of the last seconds; also of each sink |
| `pixelrt_sink_written_total` | sink | results that a sink took |
| `pixelrt_sink_dropped_total` | sink | results that it does not have: too slow for them, or it failed |
| `pixelrt_sink_queue_depth` | sink | results that wait for a sink |
| `pixelrt_sink_failed` | sink | 1 once it raised and gets no more results |

Counters are there from the start, each reason (`pixelrt.video.live.statistics`) with 0. Some alerts:

    pixelrt_source_health{state="ok"} == 0                              for: 10s
    rate(pixelrt_frames_delivered_total[1m]) == 0
    rate(pixelrt_frames_lost_total{reason="damaged"}[5m]) > 1
    pixelrt_stage_duration_seconds{stage="capture to delivery", quantile="0.99"} > 0.2
"""

from __future__ import annotations

import contextlib
import errno
import re
import socket
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from socketserver import TCPServer, ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from pixelrt.dependency import require
from pixelrt.errors import InputError
from pixelrt.interrupts import started, uninterrupted
from pixelrt.video.health import SEVERITY
from pixelrt.video.live.statistics import DROPS, LOSSES, StreamStatistics, StreamView

LOOPBACK = "127.0.0.1"
_REQUEST_S = 5.0
"""For a client to ask and to take the answer; Prometheus needs milliseconds."""
_MOST_CLIENTS = 16
_POLL_S = 0.1
_LARGEST_PORT = 65535
_QUANTILES = {"0.5": "p50_ms", "0.95": "p95_ms", "0.99": "p99_ms"}


@dataclass(frozen=True, slots=True)
class Place:
    """An address to listen at."""

    host: str
    port: int
    """0 for any that is free."""

    @classmethod
    def parse(cls, text: str, example: str = ":9090") -> Place:
        """Read `[HOST]:PORT`; without a host it is this machine alone (127.0.0.1).

        Raises:
            InputError: If it is none.
        """
        match = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]/]*):(\d{1,5})", text)
        if match is None or int(match[2]) > _LARGEST_PORT:
            hint = f"; did you mean :{text}?" if text.isdecimal() and int(text) <= _LARGEST_PORT else ""
            raise InputError(f"{text!r} is no address, expected [HOST]:PORT such as {example}{hint}")
        return cls(match[1].strip("[]") or LOOPBACK, int(match[2]))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class MetricsServer:
    """Answers Prometheus at an address until it is closed; no thread outlives it.

    It has the address from the start, and answers from `answer` on: who asks before waits.

    Args:
        place: Where to listen.

    Raises:
        InputError: If it cannot listen there.
        MissingDependency: If prometheus-client is not installed.
    """

    def __init__(self, place: Place) -> None:
        self._client = require("prometheus_client", "metrics", "--metrics")
        self._server = _listen(place)
        self.place = Place(place.host, self._server.server_port)
        self._thread: threading.Thread | None = None

    def answer(self, stream: StreamView, info: Mapping[str, str] | None = None) -> None:
        """Begin to answer; once.

        Args:
            stream: Whose statistics.
            info: What runs: labels of `pixelrt_info`.
        """
        registry = self._client.CollectorRegistry()
        registry.register(StreamCollector(stream, info or {}))
        self._server.set_app(self._client.make_wsgi_app(registry))
        thread = threading.Thread(
            target=self._server.serve_forever, args=(_POLL_S,), name="pixelrt-metrics", daemon=True
        )
        with uninterrupted():  # `close` waits for ever for one that does not run
            self._thread = started(thread)

    @property
    def url(self) -> str:
        """What Prometheus scrapes."""
        return f"http://{self.place}/metrics"

    def close(self) -> None:
        """Stop listening. Safe to call twice."""
        if self._thread is not None:
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()

    def __enter__(self) -> MetricsServer:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class _Server(ThreadingMixIn, WSGIServer):
    """One thread for each client, which has so long and no longer: no client decides when a process ends."""

    daemon_threads = False  # so that `server_close` waits for them
    allow_reuse_address = True

    def __init__(self, *values: Any) -> None:
        self._lock = threading.Lock()
        self._clients: dict[socket.socket, float] = {}
        super().__init__(*values)

    def server_bind(self) -> None:
        """Take the address; its name is not looked up, for which a dead name server takes its time."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a client; one more than there may be takes the place of the oldest one."""
        with self._lock:
            self._clients[request] = time.monotonic() + _REQUEST_S
            oldest = [*self._clients][:-_MOST_CLIENTS]
        self._cut(oldest)
        super().process_request(request, client_address)

    def service_actions(self) -> None:
        """Cut those whose time is over; called several times a second."""
        now_s = time.monotonic()
        with self._lock:
            late = [client for client, end_s in self._clients.items() if end_s < now_s]
        self._cut(late)

    def shutdown_request(self, request: Any) -> None:
        """The end of a client."""
        with self._lock:
            self._clients.pop(request, None)
        super().shutdown_request(request)

    def server_close(self) -> None:
        """Listen no more, and wait for no client."""
        with self._lock:
            everybody = list(self._clients)
        self._cut(everybody)
        super().server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: what goes wrong here is the client's, and standard error the run's."""

    def _cut(self, clients: Iterable[socket.socket]) -> None:
        for client in clients:
            with contextlib.suppress(OSError):  # it has just gone
                client.shutdown(socket.SHUT_RDWR)


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Handler(WSGIRequestHandler):
    def log_message(self, format: str, *values: object) -> None:
        """Say nothing: standard error belongs to the run."""


def _listen(place: Place) -> WSGIServer:
    kind = _Server6 if ":" in place.host else _Server
    try:
        return kind((place.host, place.port), _Handler)
    except OSError as problem:
        advice = "take another port, or :0 for any that is free"
        if problem.errno == errno.EADDRNOTAVAIL or isinstance(problem, socket.gaierror):
            advice = f"that is not this machine: it is {LOOPBACK} for itself, 0.0.0.0 for others"
        raise InputError(f"cannot listen at {place} ({problem.strerror or problem}); {advice}") from problem


class StreamCollector:
    """Reads the statistics of a stream when Prometheus asks.

    Args:
        stream: Whose.
        info: Labels of `pixelrt_info`.
    """

    def __init__(self, stream: StreamView, info: Mapping[str, str]) -> None:
        self._stream, self._info = stream, dict(info)
        self._core = require("prometheus_client.core", "metrics", "--metrics")

    def collect(self) -> Iterator[Any]:
        """Every metric family."""
        now = self._stream.statistics()
        yield self._core.InfoMetricFamily("pixelrt", "What runs.", self._info)
        yield self._core.GaugeMetricFamily(
            "pixelrt_stream_seconds", "How long the stream has run.", now.seconds
        )
        yield from self._healths(now)
        yield from self._counters(now)
        yield from self._gauges(now)
        yield self._stages(now)
        yield from self._sinks(now)

    def _healths(self, now: StreamStatistics) -> Iterator[Any]:
        family = self._core.GaugeMetricFamily
        stream = family("pixelrt_stream_health", "1 for the state that the stream is in.", labels=["state"])
        each = family(
            "pixelrt_source_health", "1 for the state that a source is in.", labels=["source", "state"]
        )
        for state in SEVERITY:
            stream.add_metric([state], state == now.health.state)
            for source in now.sources:
                each.add_metric([source.name, state], state == source.health.state)
        yield from (stream, each)

    def _counters(self, now: StreamStatistics) -> Iterator[Any]:
        for name, what, attribute in (
            ("pixelrt_frames_captured", "Frames that a source gave.", "captured"),
            ("pixelrt_frames_delivered", "Results that were delivered.", "delivered"),
            ("pixelrt_source_reconnects", "How often the connection was made anew.", "reconnects"),
        ):
            family = self._core.CounterMetricFamily(name, what, labels=["source"])
            for source in now.sources:
                family.add_metric([source.name], getattr(source, attribute))
            yield family
        for name, what, attribute, reasons in (
            ("pixelrt_frames_dropped", "Frames that were given and not delivered.", "dropped", DROPS),
            ("pixelrt_frames_lost", "Frames that a source had and could not give.", "lost", LOSSES),
        ):
            family = self._core.CounterMetricFamily(name, what, labels=["source", "reason"])
            for source in now.sources:
                # a series that begins with its first count has no rate there, and no alert
                counts = {**dict.fromkeys(reasons, 0), **getattr(source, attribute)}
                for reason, count in counts.items():
                    family.add_metric([source.name, reason], count)
            yield family

    def _gauges(self, now: StreamStatistics) -> Iterator[Any]:
        for name, what, attribute in (
            ("pixelrt_frames_in_flight", "Frames that are neither delivered nor dropped yet.", "in_flight"),
            ("pixelrt_source_ended", "1 once the source has no more frames.", "ended"),
            ("pixelrt_queue_depth", "Frames that wait for the network.", "queue_depth"),
            ("pixelrt_captured_frames_per_second", "Rate of the source.", "fps_captured"),
            ("pixelrt_delivered_frames_per_second", "Rate of results.", "fps_delivered"),
        ):
            family = self._core.GaugeMetricFamily(name, what, labels=["source"])
            for source in now.sources:
                family.add_metric([source.name], getattr(source, attribute))
            yield family

    def _stages(self, now: StreamStatistics) -> Any:
        name = "pixelrt_stage_duration_seconds"
        what = "How long frames spend in each stage."
        family = self._core.SummaryMetricFamily(name, what, labels=["stage"])
        for stage, whole in now.stages.items():
            recent = now.recent.get(stage)
            for quantile, attribute in _QUANTILES.items() if recent is not None else ():
                labels = {"stage": stage, "quantile": quantile}
                family.add_sample(name, labels, getattr(recent, attribute) / 1e3)
            family.add_metric([stage], whole.count, whole.count * whole.mean_ms / 1e3)
        return family

    def _sinks(self, now: StreamStatistics) -> Iterator[Any]:
        for name, what, attribute in (
            ("pixelrt_sink_written", "Results that a sink took.", "written"),
            (
                "pixelrt_sink_dropped",
                "Results that a sink does not have: it was too slow for them, or failed.",
                "dropped",
            ),
        ):
            family = self._core.CounterMetricFamily(name, what, labels=["sink"])
            for sink in now.sinks:
                family.add_metric([sink.name], getattr(sink, attribute))
            yield family
        depth = self._core.GaugeMetricFamily(
            "pixelrt_sink_queue_depth", "Results that wait for a sink.", labels=["sink"]
        )
        failed = self._core.GaugeMetricFamily(
            "pixelrt_sink_failed", "1 once a sink raised and gets no more results.", labels=["sink"]
        )
        for sink in now.sinks:
            depth.add_metric([sink.name], sink.queue_depth)
            failed.add_metric([sink.name], bool(sink.failed))
        yield from (depth, failed)
