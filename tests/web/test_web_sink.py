"""`web://`: a stream on the live page."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import live
import needs
import numpy as np
import pages
import psutil
import pytest
from deliveries import delivery

from pixelrt.errors import InputError, SinkError
from pixelrt.frames import Latency
from pixelrt.manifest import ClassInfo
from pixelrt.segmentation import Segmentation
from pixelrt.video.frame import Frame
from pixelrt.video.live import Stream
from pixelrt.video.sinks import open_sink
from pixelrt.video.sinks.web import WebSink, page_options
from pixelrt.web import PageOptions, hub

CLASSES = (ClassInfo(name="road", color=(128, 64, 128)), ClassInfo(name="car", color=(0, 0, 255)))
LATENCY = Latency(prepare_ms=0.1, network_ms=0.8, total_ms=1.0)
TOKEN = "a-token-of-many-letters"


def result_of(index: int = 0, **changes: Any) -> Any:
    """A picture of a road."""
    image = np.full((8, 12, 3), (10, 20, 30), np.uint8)
    values: dict[str, Any] = {"image": image, "index": index, "time_s": 0.0, "name": "f", "source": "front"}
    frame = Frame(**{**values, **changes})
    mask = np.zeros((4, 6), np.uint8)
    return delivery(
        frame, Segmentation("scene", CLASSES, (8, 12), LATENCY, mask, mask + 200, color=frame.color)
    )


class TestAddresses:
    @pytest.mark.parametrize(
        ("uri", "host", "port"),
        [
            ("web://", "127.0.0.1", 8080),
            ("web://:9000", "127.0.0.1", 9000),
            ("web://:0/", "127.0.0.1", 0),
            ("web://localhost", "localhost", 8080),
            ("web://0.0.0.0:80", "0.0.0.0", 80),
            ("web://[::1]:81", "::1", 81),
            ("WEB://robot.local:82", "robot.local", 82),
        ],
    )
    def test_places(self, uri: str, host: str, port: int) -> None:
        options = page_options(uri)
        assert (options.host, options.port, options.token) == (host, port, None)

    def test_options(self) -> None:
        uri = f"web://:1?token={TOKEN}&quality=60&side=640&viewers=3&title=the%20robot"
        expected = PageOptions(
            port=1, token=TOKEN, quality=60, longest_side=640, max_viewers=3, title="the robot"
        )
        assert page_options(uri) == expected

    @pytest.mark.parametrize(
        ("uri", "text"),
        [
            ("web://8080", r"'8080' is no address \(did you mean web://:8080\?\)"),
            ("web://:port", "':port' is no address; expected web://HOST:PORT, such as web://:8080"),
            ("web://a:1/page", "'a:1/page' is no address"),
            ("web://:99999", "port is 99999, expected 1 to 65535"),
            ("web://:1?tokn=x", r"web:// has no option 'tokn' \(did you mean 'token'\?\)"),
            ("web://:1?token=short", "the token has 5 characters, expected at least 12"),
            ("web://:1?quality=0", "quality=0: expected a whole number, 1 to 100"),
            ("web://:1?quality", "is not a list of key=value"),
        ],
    )
    def test_mistakes(self, uri: str, text: str) -> None:
        with pytest.raises(SinkError, match=text):
            page_options(uri)


class TestSink:
    def test_says_where_the_page_is(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pages.nothing_left(), open_sink("web://127.0.0.1:0?token=" + TOKEN, live.Camera(1)) as sink:
            assert isinstance(sink, WebSink)
            assert capsys.readouterr().err == f"live page: {sink.url}\n"
            assert sink.url.endswith(f"/?token={TOKEN}")
            assert TOKEN not in sink.name

    def test_a_port_that_is_taken(self) -> None:
        with pages.served() as page, pages.nothing_left(), pytest.raises(SinkError, match="already in use"):
            open_sink(f"web://:{pages.port_of(page)}", live.Camera(1))

    @pytest.mark.parametrize("color", ["rgb", "bgr"])
    def test_colours_are_right(self, color: str) -> None:
        with pages.nothing_left(), WebSink(PageOptions(port=0)) as sink:
            sink.write(result_of(color=color))
            port = int(sink.url.rstrip("/").rpartition(":")[2])
            png = np.frombuffer(pages.ask(port, "/snapshot/front.png").body, np.uint8)
            overlay = cv2.imdecode(png, cv2.IMREAD_COLOR_RGB)
            seen = (10, 20, 30) if color == "rgb" else (30, 20, 10)
            np.testing.assert_allclose(overlay[4, 6], (np.array(seen) + CLASSES[0].color) / 2, atol=1)
            with pages.Client(SimpleNamespace(url=sink.url)) as client:  # type: ignore[arg-type]
                client.watch(0)
                picture = client.next()
                assert picture is not None
                jpeg = cv2.imdecode(np.frombuffer(picture.jpeg, np.uint8), cv2.IMREAD_COLOR_RGB)
                np.testing.assert_allclose(jpeg[4, 6], seen, atol=6)
                assert picture.header["age_ms"] == pytest.approx(4.0)
                assert picture.header["network"] == list(result_of().size)

    def test_what_it_cannot_show(self) -> None:
        with WebSink(PageOptions(port=0)) as sink:
            on_gpu = SimpleNamespace(shape=(8, 12, 3), __cuda_array_interface__={"shape": (8, 12, 3)})
            with pytest.raises(InputError, match="on a GPU, which has none of the methods"):
                sink.write(result_of(image=on_gpu))
            bare = Segmentation("scene", CLASSES, (8, 12), LATENCY)
            with pytest.raises(InputError, match="emits no mask"):
                sink.write(delivery(result_of().frame, bare))

    def test_after_its_end(self) -> None:
        sink = WebSink(PageOptions(port=0))
        sink.close()
        sink.close()
        sink.abort()
        with pytest.raises(SinkError, match="not served"):
            sink.write(result_of())


PERIOD_S = 1 / 30


class Noisy(live.Camera):
    """Pictures of which few fit into a socket."""

    def __init__(self) -> None:
        super().__init__(None, PERIOD_S)
        self.size = (240, 320)
        self._picture = np.random.default_rng(1).integers(0, 256, (*self.size, 3), np.uint8)

    def frame(self, index: int) -> Frame:
        return dataclasses.replace(super().frame(index), image=self._picture)


@dataclasses.dataclass(frozen=True)
class Pace:
    """How a stream went for a while."""

    fps: float
    p99_ms: float
    """Age of the results."""
    shown: int
    """Results that the page took."""

    @classmethod
    def of(cls, stream: Stream, count: int = 90, until: Callable[[], object] = lambda: True) -> Pace:
        """Of the next results: so many, and on until something is so."""
        written, ages_ms = stream.statistics().sinks[0].written, []
        began_s = time.monotonic()
        while len(ages_ms) < count or not until():
            ages_ms.append(next(stream).age_ms)
        return cls(
            fps=len(ages_ms) / (time.monotonic() - began_s),
            p99_ms=float(np.percentile(ages_ms, 99)),
            shown=stream.statistics().sinks[0].written - written,
        )


@contextlib.contextmanager
def browser(url: str, profile: Path) -> Iterator[Callable[[], None]]:
    """Chromium with a page, which can be frozen."""
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0"]
    command = [needs.chromium(), *flags, f"--user-data-dir={profile}", url]
    silent = subprocess.DEVNULL
    with subprocess.Popen(command, stdout=silent, stderr=silent) as child:
        process = psutil.Process(child.pid)

        def family() -> list[psutil.Process]:
            return [process, *process.children(recursive=True)]

        def freeze() -> None:
            for each in family():
                each.suspend()

        try:
            yield freeze
        finally:
            for each in family():
                with contextlib.suppress(psutil.NoSuchProcess):
                    each.kill()


class TestStream:
    def test_everything_of_two_sources(self) -> None:
        with pages.nothing_left():
            sink = open_sink("web://:0", live.Camera(1))
            assert isinstance(sink, WebSink)
            port = int(sink.url.rstrip("/").rpartition(":")[2])
            cameras = [live.Camera(None, 0.01, name=name) for name in ("front", "rear/1 ü")]
            with (
                live.network(0.002) as segmenter,
                segmenter.stream(cameras, sinks=[sink, live.Notes()]) as stream,
            ):
                shown: set[str] = set()
                told: dict[str, Any] = {}
                for result in stream:
                    shown.add(result.frame.source)
                    told = json.loads(pages.ask(port, "/api/status").body)
                    if len(shown) == 2 and all(camera["pace"] for camera in told["cameras"]):
                        break
                assert told["health"]["state"] == "ok"
                assert [camera["name"] for camera in told["cameras"]] == ["front", "rear/1 ü"]
                for camera in told["cameras"]:
                    numbers = camera["numbers"]
                    dropped = sum(numbers["dropped"].values())
                    assert numbers["captured"] >= numbers["delivered"] + dropped > 0
                assert {"network", "capture to delivery"} <= set(told["stages"])
                assert [sink["name"] for sink in told["sinks"]] == ["notes"]

    def test_sources_that_have_ended(self) -> None:
        with pages.nothing_left():
            sink = WebSink(PageOptions(port=0))
            port = int(sink.url.rstrip("/").rpartition(":")[2])
            cameras = [live.Camera(2, name="short"), live.Camera(None, 0.01, name="long")]
            with live.network() as segmenter, segmenter.stream(cameras, sinks=[sink]) as stream:
                for _ in stream:
                    told = json.loads(pages.ask(port, "/api/status").body)
                    states = [(camera["numbers"] or {}).get("health") for camera in told["cameras"]]
                    if stream.sources[0].ended and states[0]["state"] == "ended":
                        break
                assert (states[0]["why"], states[1]["state"], told["health"]["state"]) == ("", "ok", "ok")

    @pytest.mark.timeout(90)
    def test_a_frozen_browser_does_not_slow_the_loop(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Rate and age of the results, and what the page takes, are what they are without one."""
        packed, sent = hub.packed, []

        def counted(*arguments: Any, **options: Any) -> bytes:
            sent.append(1)
            return packed(*arguments, **options)

        monkeypatch.setattr(hub, "packed", counted)
        with pages.nothing_left():
            sink = WebSink(PageOptions(port=0))
            with live.network(0.01) as segmenter, segmenter.stream(Noisy(), sinks=[sink]) as stream:
                alone = Pace.of(stream)
                with browser(sink.url, tmp_path) as freeze:
                    Pace.of(stream, until=lambda: len(sent) >= 10)
                    freeze()
                    Pace.of(stream, 15)  # the picture that is on its way
                    before = len(sent)
                    frozen = Pace.of(stream)
                    assert len(sent) == before, "it asks for nothing"
        assert frozen.fps > 0.6 * alone.fps
        assert frozen.p99_ms < 3 * alone.p99_ms + 5e3 * PERIOD_S
        assert frozen.shown > 0.6 * alone.shown

    def test_a_stream_that_is_left_in_the_middle(self) -> None:
        with pages.nothing_left():
            sink = WebSink(PageOptions(port=0))
            with live.network() as segmenter:
                for result in segmenter.stream(live.Camera(None, 0.005), sinks=[sink]):
                    if result.frame.index > 3:
                        break
                assert pages.wait_for(lambda: not _is_served(sink))


def _is_served(sink: WebSink) -> bool:
    try:
        pages.ask(int(sink.url.rstrip("/").rpartition(":")[2]))
    except ConnectionError:
        return False
    return True
