"""`web://`: results on the live page."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pixelrt.errors import InputError, MisspeltSink
from pixelrt.terminal import complain
from pixelrt.video.delivery import Delivery
from pixelrt.video.health import Health
from pixelrt.video.sinks.base import BaseSink
from pixelrt.video.sinks.kinds import NamedSink, SinkOptions
from pixelrt.video.sinks.places import place_of
from pixelrt.video.sources.address import parse_address, whole
from pixelrt.web import (
    CameraNumbers,
    Numbers,
    Page,
    PageOptions,
    SinkNumbers,
    StageNumbers,
    State,
    View,
)
from pixelrt.web.options import DEFAULT_HOST, DEFAULT_PORT, check_token

if TYPE_CHECKING:
    from pixelrt.video.live.statistics import SourceStatistics, StreamStatistics, StreamView


def _token(text: str) -> str:
    check_token(text)
    return text


_READERS: dict[str, Callable[[str], Any]] = {
    "token": _token,
    "quality": whole(1, 100),
    "side": whole(16, 16384),
    "viewers": whole(1, 1000),
    "title": str,
}
_SCHEME = "web://"
_NAMES = {"side": "longest_side", "viewers": "max_viewers"}


class WebSink(BaseSink):
    """Serves the live page while it is open.

    Args:
        options: How it is served.

    Attributes:
        url: The page's address, with the token in it where one is needed.

    Raises:
        SinkError: If it cannot be served there.
        MissingDependency: If a library of the extra `web` is not installed.
    """

    def __init__(self, options: PageOptions | None = None) -> None:
        self._stream: StreamView | None = None
        self._page = Page(options, numbers=self._numbers)
        self.url = self._page.start()

    def attach(self, stream: StreamView) -> None:
        """Show the stream's sources, and its figures from now on."""
        self._stream = stream
        for source in stream.sources:
            self._page.announce(source.name)

    def write(self, delivery: Delivery) -> None:
        """Show a result; costs next to nothing here, whoever looks.

        Raises:
            SinkError: If the page has failed.
            InputError: If the bundle emits no mask, or the frame is on a GPU and cannot be copied from there.
        """
        frame, result = delivery
        if result.mask is None:
            raise InputError(f"head {result.name!r} emits no mask; export it with 'mask' among its outputs")
        view = View(
            image=frame.on_host(),
            color=frame.color,
            mask=result.mask,
            confidence=result.confidence,
            classes=result.classes,
            overlay=delivery.overlay,
            network=delivery.size,
            index=frame.index,
            age_ms=delivery.age_ms,
        )
        self._page.publish(frame.source or "camera", view)

    def close(self) -> tuple[Path, ...]:
        """Serve no more."""
        self._page.stop()
        return ()

    def abort(self) -> None:
        """Serve no more."""
        self._page.stop()

    def _numbers(self) -> Numbers:
        return Numbers() if self._stream is None else numbers_of(self._stream.statistics())


def open_web(uri: str, options: SinkOptions) -> WebSink:
    """Open `web://HOST:PORT?token=...&title=...&quality=80&side=1280&viewers=50`, and say where the page is.

    Args:
        uri: Every part may be left out: `web://` is `web://127.0.0.1:8080`.
        options: Of every sink.

    Raises:
        SinkError: If the address or an option cannot be used, or the page cannot be served there.
    """
    sink = WebSink(page_options(uri))
    complain(f"live page: {sink.url}")
    return sink


def web_label(uri: str, sink: NamedSink) -> str:
    """Where the page is: with the port that was taken, where any would do."""
    place = place_of(uri).rstrip("/")
    if place.endswith(":0") and isinstance(sink, WebSink):
        return f"{place[:-1]}{urlsplit(sink.url).port}"
    return place


def page_options(uri: str) -> PageOptions:
    """Read `web://...`.

    Raises:
        SinkError: If the address or an option cannot be used.
    """
    address = parse_address(uri, error=MisspeltSink)
    place = re.fullmatch(r"(\[[^\]]*\]|[^\[\]:/]*)(?::(\d{1,5}))?/?", address.rest)
    if place is None or (not place[2] and re.fullmatch(r"\d+", place[1])):
        hint = f" (did you mean web://:{address.rest}?)" if address.rest.isdecimal() else ""
        raise MisspeltSink(
            f"{uri}: {address.rest!r} is no address{hint}; expected web://HOST:PORT, such as web://:8080 for "
            "this machine alone or web://0.0.0.0:8080 for others too"
        )
    given = address.options(_READERS, MisspeltSink)
    host, port = place[1].strip("[]") or DEFAULT_HOST, int(place[2] or DEFAULT_PORT)
    try:
        return PageOptions(host=host, port=port, **{_NAMES.get(key, key): given[key] for key in given})
    except InputError as problem:
        raise MisspeltSink(f"{uri.partition('?')[0]}: {problem}") from problem


def numbers_of(statistics: StreamStatistics) -> Numbers:
    """What the page tells of a stream."""
    return Numbers(
        seconds=statistics.seconds,
        health=_state(statistics.health, all(source.ended for source in statistics.sources)),
        cameras={source.name: _camera(source) for source in statistics.sources},
        stages={
            name: StageNumbers(p50_ms=stage.p50_ms, p95_ms=stage.p95_ms, p99_ms=stage.p99_ms)
            for name, stage in statistics.recent.items()
        },
        sinks=tuple(
            SinkNumbers(name=sink.name, written=sink.written, dropped=sink.dropped, failed=sink.failed)
            for sink in statistics.sinks
            if not sink.name.startswith(_SCHEME)  # who sees the page sees that it works
        ),
    )


def _camera(source: SourceStatistics) -> CameraNumbers:
    return CameraNumbers(
        captured=source.captured,
        delivered=source.delivered,
        dropped=dict(source.dropped),
        lost=dict(source.lost),
        reconnects=source.reconnects,
        fps_captured=source.fps_captured,
        fps_delivered=source.fps_delivered,
        health=_state(source.health, source.ended),
    )


def _state(health: Health, ended: bool) -> State:
    return State(
        state="ended" if health.is_ok and ended else health.state, since_s=health.since_s, why=health.why
    )
