"""Slow, frozen, dead, rude and many viewers: none of them holds up who publishes, or costs memory."""

from __future__ import annotations

import contextlib
import http.client
import json
import logging
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from statistics import median

import numpy as np
import pages
import psutil
import pytest
from pages import Client, served, view
from websockets.exceptions import ConnectionClosed

from pixelrt.web import Page, connections, listening, server
from pixelrt.web.viewer import LONGEST

MIB = 2**20


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    """A page with a camera."""
    with served() as made:
        made.publish("front", view())
        yield made


class TestPictures:
    def test_what_is_sent(self) -> None:
        with served(title="road-unet") as page, Client(page) as client:
            page.publish("front", view(7))
            client.watch(0)
            picture = client.next()
            assert picture is not None
            assert client.hello["title"] == "road-unet"
            (camera,) = client.hello["cameras"]
            assert (camera["id"], camera["name"], camera["confidence"]) == (0, "front", True)
            assert camera["classes"] == [
                ["road", [128, 64, 128]],
                ["car", [0, 0, 255]],
                ["sky", [0, 200, 255]],
            ]
            assert {"camera": 0, "sequence": 1, "index": 7, "age_ms": 12.5}.items() <= picture.header.items()
            assert picture.header["frame"] == list(pages.IMAGE_SIZE)
            np.testing.assert_array_equal(picture.mask, view().mask)
            assert picture.percent is not None
            assert set(np.unique(picture.percent)) == {60, 100}

    def test_percent_are_exact(self) -> None:
        every = np.arange(256, dtype=np.uint8).reshape(16, 16)
        with served() as page, Client(page) as client:
            page.publish("front", view(mask=np.zeros((16, 16), np.uint8), confidence=every))
            client.watch(0)
            picture = client.next()
        assert picture is not None
        assert picture.percent is not None
        for percent in range(101):
            np.testing.assert_array_equal(picture.percent < percent, every / 255 < percent / 100 - 1e-12)

    def test_without_confidence(self) -> None:
        with served() as page, Client(page) as client:
            page.publish("front", view(confidence=None))
            client.watch(0)
            picture = client.next()
            assert picture is not None
            assert picture.percent is None
            assert client.hello["cameras"][0]["confidence"] is False

    def test_nothing_before_the_last_was_seen_and_then_the_newest(self) -> None:
        with served() as page, Client(page) as client:
            page.publish("front", view(0))
            client.watch(0)
            first = client.next()
            assert first is not None
            for index in range(1, 50):
                page.publish("front", view(index))
            assert client.next(timeout_s=0.3) is None
            client.seen(0)
            second = client.next()
            assert second is not None
            assert second.header["index"] == 49

    def test_only_what_is_watched(self) -> None:
        with served() as page, Client(page) as client:
            for name in ("front", "left", "right"):
                page.publish(name, view())
            client.watch(2, 0, 99, 0)
            got = {picture.header["camera"] for picture in (client.next(), client.next()) if picture}
            assert got == {0, 2}
            assert client.next(timeout_s=0.3) is None
            client.watch()
            client.seen(0)
            page.publish("front", view(1))
            assert client.next(timeout_s=0.3) is None

    def test_watched_before_it_is_there(self) -> None:
        with served() as page, Client(page) as client:
            client.watch(0)
            client.text("numbers")
            page.publish("front", view())
            assert client.next() is not None

    def test_a_camera_that_comes_later_and_classes_that_change(self) -> None:
        with served() as page, Client(page) as client:
            assert client.text("hello")["cameras"] == []
            page.announce("front")
            assert client.text("hello")["cameras"][0]["classes"] is None
            page.publish("front", view())
            assert len(client.text("hello")["cameras"][0]["classes"]) == 3
            page.publish("front", view(classes=pages.CLASSES[:2]))
            client.watch(0)
            assert client.next() is not None
            assert len(client.hello["cameras"][0]["classes"]) == 2

    def test_encoded_once_for_all_and_only_if_somebody_looks(self) -> None:
        drawn: list[int] = []

        def overlay() -> pages.Bytes:
            drawn.append(1)
            return np.zeros((8, 8, 3), np.uint8)

        with served() as page:
            for _ in range(50):
                page.publish("front", view(overlay=overlay))
            for _ in range(5):
                assert pages.ask(page, "/snapshot/front.png").status == 200
        assert len(drawn) == 1

    def test_the_numbers_come_by_themselves_and_wait_to_be_seen(self) -> None:
        with served() as page, Client(page) as client:
            page.publish("front", view())
            while json.loads(client.socket.recv(timeout=20))["type"] != "numbers":
                pass
            with pytest.raises(TimeoutError):
                client.socket.recv(timeout=1.3)
            client.seen("numbers")
            assert json.loads(client.socket.recv(timeout=20))["type"] == "numbers"


class TestRudeViewers:
    @pytest.mark.parametrize(
        "message",
        [
            "",
            "{",
            "[]",
            "1",
            b"\x00\x01",
            '{"watch": 3}',
            '{"watch": ["front"]}',
            '{"watch": [true]}',
            '{"seen": [1]}',
            '{"seen": "all"}',
            "[" * 10_000,
            '{"watch": [1e999]}',
            "9" * 10_000,
        ],
    )
    def test_messages_that_no_page_sends(
        self, page: Page, message: str | bytes, caplog: pytest.LogCaptureFixture
    ) -> None:
        with Client(page) as good:
            good.watch(0)
            with Client(page) as rude:
                rude.socket.send(message)
                with pytest.raises(ConnectionClosed) as closed:
                    while True:
                        rude.socket.recv(timeout=20)
                assert closed.value.rcvd is not None
                assert closed.value.rcvd.code == 1008
            assert good.next() is not None
        assert not caplog.records

    def test_messages_that_are_too_long(self, page: Page, caplog: pytest.LogCaptureFixture) -> None:
        with Client(page) as good:
            with Client(page) as rude:
                rude.socket.send("x" * (LONGEST + 1))
                with pytest.raises(ConnectionClosed) as closed:
                    while True:
                        rude.socket.recv(timeout=20)
                assert closed.value.rcvd is not None
                assert closed.value.rcvd.code == 1009
            good.watch(0)
            assert good.next() is not None
        assert not [record for record in caplog.records if record.levelno >= logging.ERROR]

    @pytest.mark.parametrize(
        "start", [b"", b"GET / HTTP/1.1\r\n", b"\x16\x03\x01nonsense\r\n\r\n", b"A" * 200_000]
    )
    def test_connections_that_never_ask_properly(self, start: bytes) -> None:
        with (
            pages.nothing_left(),
            served() as page,
            socket.create_connection(("127.0.0.1", pages.port_of(page))) as rude,
        ):
            with contextlib.suppress(ConnectionError):
                rude.sendall(start)
            assert pages.ask(page).status == 200

    def test_connections_that_never_ask_are_cut(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(connections, "PATIENCE_S", 0.2)
        with served() as page, Client(page) as good, contextlib.ExitStack() as rude:
            address = ("127.0.0.1", pages.port_of(page))
            silent = [rude.enter_context(socket.create_connection(address)) for _ in range(5)]
            silent[0].sendall(b"GET / HT")
            for one in silent:
                one.settimeout(20)
                with contextlib.suppress(ConnectionResetError):
                    assert one.recv(1) == b""
            good.watch(0)
            page.publish("front", view())
            assert good.next() is not None

    @pytest.mark.parametrize("token", [None, "a-token-of-many-letters"])
    def test_nor_may_they_ask_once_and_then_no_more(
        self, token: str | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(connections, "PATIENCE_S", 0.2)
        request = b"GET /api/status HTTP/1.1\r\nHost: localhost\r\n\r\n"
        with served(token=token) as page:
            with socket.create_connection(("127.0.0.1", pages.port_of(page)), timeout=20) as rude:
                rude.sendall(request + b"GET / HTTP/1.1\r\nHost: ")
                answer = b""
                with contextlib.suppress(ConnectionResetError):
                    while got := rude.recv(65536):
                        answer += got
            assert answer.startswith(b"HTTP/1.1 401" if token else b"HTTP/1.1 200")

    def test_one_that_asks_again_and_again_is_not_cut(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(connections, "PATIENCE_S", 0.4)
        with served() as page:
            polite = http.client.HTTPConnection("127.0.0.1", pages.port_of(page), timeout=20)
            polite.connect()
            with contextlib.closing(polite):
                kept, began_s = polite.sock, time.monotonic()
                while time.monotonic() - began_s < 4 * connections.PATIENCE_S:
                    polite.request("GET", "/api/status")
                    assert polite.getresponse().read()
                    time.sleep(0.05)
                assert polite.sock is kept

    def test_silent_ones_make_room(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(server, "SPARE", 4)
        with served(max_viewers=1) as page, Client(page) as good, contextlib.ExitStack() as rude:
            good.watch(0)
            address = ("127.0.0.1", pages.port_of(page))
            silent = [rude.enter_context(socket.create_connection(address, timeout=20)) for _ in range(30)]
            with contextlib.suppress(ConnectionResetError):
                assert silent[0].recv(1) == b""
            assert pages.ask(page).status == 200
            page.publish("front", view())
            assert good.next() is not None
            process = psutil.Process()
            assert pages.wait_for(lambda: _connected(process, address) <= 5)

    def test_what_is_no_request_is_not_printed(
        self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        """As in a program that has not set logging up: pytest has."""
        monkeypatch.setattr(logging.getLogger(), "handlers", [])
        monkeypatch.setattr(logging.getLogger("uvicorn.error"), "level", logging.NOTSET)
        with (
            served() as page,
            socket.create_connection(("127.0.0.1", pages.port_of(page)), timeout=20) as rude,
        ):
            rude.sendall(b"\x16\x03\x01nonsense\r\n\r\n")
            assert rude.recv(65536).startswith(b"HTTP/1.1 400")
        assert capfd.readouterr().err == ""

    def test_more_than_are_welcome(self) -> None:
        with served(max_viewers=2) as page, Client(page), Client(page) as second:
            page.publish("front", view())
            second.text("hello")
            with Client(page) as third:
                with pytest.raises(ConnectionClosed) as closed:
                    third.socket.recv(timeout=20)
                assert closed.value.rcvd is not None
                assert closed.value.rcvd.code == 1013
                assert closed.value.rcvd.reason == "2 viewers look already; try again later"
            assert pages.ask(page, "/stream/front.mjpg").status == 503
            second.socket.close()
            with Client(page) as third:
                assert third.text("hello")


class TestFrozenViewers:
    def test_one_that_stops_reading(self) -> None:
        """Its share of the memory is what one picture takes, and publishing goes on as before."""
        large = np.random.default_rng(1).integers(0, 256, (720, 1280, 3), np.uint8)  # 1 MB as JPEG
        with pages.nothing_left(), served() as page:
            _publish(page, large, 50)
            alone_s = _publish(page, large, 500)
            with _raw(page, "/live") as frozen:
                frozen.sendall(_frame('{"watch": [0]}'))
                _publish(page, large, 50)
                before = psutil.Process().memory_info().rss
                frozen_s = _publish(page, large, 500)
                assert psutil.Process().memory_info().rss - before < 20 * MIB
            assert median(frozen_s) < 10 * median(alone_s), "three times: it is told that there is a picture"
            assert sum(frozen_s) < 10 * sum(alone_s) + 5, "nor does it wait now and then"
            with Client(page) as good:
                good.watch(0)
                assert good.next() is not None

    def test_one_that_says_it_saw_everything_and_reads_nothing(self) -> None:
        """It gets more and more until its socket is full, and nothing after that."""
        large = np.random.default_rng(1).integers(0, 256, (720, 1280, 3), np.uint8)
        with pages.nothing_left(), served() as page, _raw(page, "/live") as frozen:
            frozen.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            frozen.sendall(_frame('{"watch": [0]}'))
            for _ in range(100):
                page.publish("front", view(image=large))
                frozen.sendall(_frame('{"seen": 0}'))
                time.sleep(0.005)
            before = psutil.Process().memory_info().rss
            for _ in range(200):
                page.publish("front", view(image=large))
                frozen.sendall(_frame('{"seen": 0}'))
                time.sleep(0.005)
            assert psutil.Process().memory_info().rss - before < 20 * MIB

    def test_a_stream_that_nobody_reads(self) -> None:
        large = np.random.default_rng(1).integers(0, 256, (720, 1280, 3), np.uint8)
        with pages.nothing_left(), served() as page:
            page.publish("front", view(overlay=lambda: large))
            with socket.create_connection(("127.0.0.1", pages.port_of(page))) as frozen:
                frozen.sendall(b"GET /stream/front.mjpg HTTP/1.1\r\nHost: localhost\r\n\r\n")
                for _ in range(50):
                    page.publish("front", view(overlay=lambda: large))
                    time.sleep(0.01)
                before = psutil.Process().memory_info().rss
                for _ in range(100):
                    page.publish("front", view(overlay=lambda: large))
                    time.sleep(0.01)
                assert psutil.Process().memory_info().rss - before < 20 * MIB
                assert pages.ask(page).status == 200

    def test_streams_that_are_left_while_no_picture_comes(self) -> None:
        with served(max_viewers=1) as page:
            page.publish("front", view())
            for _ in range(3):
                with socket.create_connection(("127.0.0.1", pages.port_of(page))) as client:
                    client.sendall(b"GET /stream/front.mjpg HTTP/1.1\r\nHost: localhost\r\n\r\n")
                    assert b"200" in client.recv(100)
                assert pages.wait_for(
                    lambda: pages.ask(page, "/stream/front.mjpg", method="HEAD").status == 200
                )

    def test_a_frozen_one_does_not_hold_up_the_end(self) -> None:
        large = np.random.default_rng(1).integers(0, 256, (720, 1280, 3), np.uint8)
        with pages.nothing_left(), served() as page, _raw(page, "/live") as frozen:
            frozen.sendall(_frame('{"watch": [0]}'))
            for _ in range(20):
                page.publish("front", view(image=large))
                frozen.sendall(_frame('{"seen": 0}'))
                time.sleep(0.01)
            began_s = time.monotonic()
            page.stop()
            assert time.monotonic() - began_s < 10

    def test_the_kernel_cuts_what_takes_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(listening, "FROZEN_MS", 500)
        large = np.random.default_rng(1).integers(0, 256, (720, 1280, 3), np.uint8)
        with served() as page, _raw(page, "/live") as frozen:
            frozen.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            frozen.sendall(_frame('{"watch": [0]}'))
            with pytest.raises(ConnectionError):
                for index in range(100):  # more than the kernel keeps
                    page.publish("front", view(index, image=large))
                    frozen.sendall(_frame('{"seen": 0}'))
                    time.sleep(0.02)
                for _ in range(15):  # and now not a word
                    time.sleep(1)
                    frozen.sendall(_frame('{"seen": 0}'))

    def test_one_that_is_killed(self) -> None:
        """A process that dies without a word; a hundred frames later nothing of it is left."""
        program = (
            "import sys, time\n"
            "from websockets.sync.client import connect\n"
            "with connect(sys.argv[1], proxy=None) as client:\n"
            "    client.send('{\"watch\": [0]}')\n"
            "    print('watching', flush=True); time.sleep(60)\n"
        )
        with served() as page:
            page.publish("front", view())
            pages.ask(page, "/api/status")  # all threads run
            with pages.nothing_left():
                address = f"ws://127.0.0.1:{pages.port_of(page)}/live"
                command = [sys.executable, "-c", program, address]
                with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
                    assert child.stdout is not None
                    assert child.stdout.readline() == b"watching\n"
                    _publish(page, view().image, 50)
                    os.kill(child.pid, signal.SIGKILL)
                _publish(page, view().image, 50)
            with Client(page) as good:
                good.watch(0)
                assert good.next() is not None


class TestManyViewers:
    def test_twenty_at_once(self) -> None:
        """Each sees newer and newer frames, whatever the others do."""
        counts: list[int] = []

        def look(page: Page) -> None:
            with Client(page) as client:
                client.watch(0)
                indices = []
                for _ in range(10):
                    picture = client.next()
                    assert picture is not None
                    indices.append(picture.header["index"])
                    client.seen(0)
                assert indices == sorted(set(indices))
                counts.append(len(indices))

        with pages.nothing_left(), served() as page, _publishing(page):
            threads = [threading.Thread(target=look, args=(page,)) for _ in range(20)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)
        assert counts == [10] * 20

    def test_they_come_and_go(self) -> None:
        with served() as page, _publishing(page):
            pages.ask(page, "/api/status")  # all threads run
            with pages.nothing_left():
                for _ in range(30):
                    with Client(page) as client:
                        client.watch(0)
                        assert client.next() is not None

    def test_the_end_is_told(self) -> None:
        with pages.nothing_left(), served() as page, Client(page) as client:
            client.text("hello")
            page.stop()
            with pytest.raises(ConnectionClosed) as closed:
                while True:
                    client.socket.recv(timeout=20)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1001


def _connected(process: psutil.Process, address: tuple[str, int]) -> int:
    """Connections that the page has."""
    return sum(
        one.laddr == address and one.status == psutil.CONN_ESTABLISHED
        for one in process.net_connections("tcp")
    )


def _publish(page: Page, image: pages.Bytes, count: int) -> list[float]:
    """Publish so many frames, and return how long each took, in seconds, without the time between them."""
    took_s = []
    for index in range(count):
        shown = view(index, image=image)
        began_s = time.perf_counter()
        page.publish("front", shown)
        took_s.append(time.perf_counter() - began_s)
        time.sleep(0.001)
    return took_s


@contextlib.contextmanager
def _publishing(page: Page) -> Iterator[None]:
    """Publish frames all the while."""
    over = threading.Event()

    def run() -> None:
        index = 0
        while not over.wait(0.005):
            page.publish("front", view(index))
            index += 1

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextlib.contextmanager
def _raw(page: Page, path: str) -> Iterator[socket.socket]:
    """A WebSocket without a library, which would read what comes."""
    request = (
        f"GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", pages.port_of(page))) as opened:
        opened.sendall(request.encode())
        assert b"101" in opened.recv(12)
        yield opened


def _frame(text: str) -> bytes:
    """A text message of a client, masked with zeros."""
    content = text.encode()
    assert len(content) < 126
    return struct.pack("!BBI", 0x81, 0x80 | len(content), 0) + content
