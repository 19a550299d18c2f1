"""What the server of the live page answers, and to whom."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import threading
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
from typing import Any
from urllib.parse import quote

import cv2
import numpy as np
import pages
import pytest
from interrupting import interrupt_started_threads
from numpy.typing import NDArray
from pages import ask, served, view
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from pixelrt.errors import InputError, SinkError
from pixelrt.web import CameraNumbers, Numbers, Page, PageOptions, SinkNumbers, StageNumbers, State
from pixelrt.web.assets import Assets

TOKEN = "a-token-of-23-letters.."
EVERY_PATH = ("/", "/assets/page.js", "/api/status", "/stream/front.mjpg", "/snapshot/front.png", "/nothing")


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    """A page with a camera."""
    with served() as made:
        made.publish("front", view())
        yield made


@pytest.fixture(scope="module")
def guarded() -> Iterator[Page]:
    """The same, behind a token."""
    with served(token=TOKEN) as made:
        made.publish("front", view())
        yield made


class TestPaths:
    def test_the_page_and_all_that_it_asks_for(self, page: Page) -> None:
        home = ask(page)
        assert home.status == 200
        assert home.headers["content-type"] == "text/html; charset=utf-8"
        named = set(re.findall(r'(?:src|href)="(/[^"]+)"', home.text))
        for path in Assets.load().files:
            named |= set(re.findall(r'from "(/assets/[^"]+)"', ask(page, f"/assets/{path}").text))
        assert {"/assets/page.css", "/assets/page.js", "/assets/scene.js"} <= named
        for path in named:
            asset = ask(page, path)
            assert asset.status == 200
            assert asset.headers["content-type"].startswith(
                ("text/javascript", "text/css", "application/json")
            )

    def test_nothing_comes_from_elsewhere(self) -> None:
        for asset in Assets.load().files.values():
            text = asset.content.decode()
            assert not re.search(r"(?<!xmlns=')https?://(?!www\.w3\.org/2000/svg)", text)
            assert "innerHTML" not in text
            assert not re.search(r"\b(eval|Function)\(", text)
            assert not re.search(r'\sstyle="', text)

    @pytest.mark.parametrize(
        "path", ["/nothing", "/assets/none.js", "/assets/../guard.py", "/assets/%2e%2e/guard.py", "/stream/"]
    )
    def test_wrong_paths(self, path: str, page: Page) -> None:
        assert ask(page, path).status == 404

    @pytest.mark.parametrize("path", ["/", "/api/status", "/stream/front.mjpg", "/assets/page.css"])
    def test_wrong_methods(self, path: str, page: Page) -> None:
        answer = ask(page, path, method="POST")
        assert answer.status == 405
        assert "GET" in answer.headers["allow"]

    def test_a_camera_that_is_not_there(self) -> None:
        with served() as page:
            assert "there is: none yet" in ask(page, "/snapshot/front.png").text
            page.publish("front", view())
            answer = ask(page, "/stream/frnt.mjpg")
            assert answer.status == 404
            assert answer.text == "no camera 'frnt' (did you mean 'front'?); there is: front"

    def test_a_camera_without_a_picture(self) -> None:
        with served() as page:
            page.announce("front")
            answer = ask(page, "/snapshot/front.png")
            assert answer.status == 503
            assert "'front' has shown nothing yet" in answer.text

    @pytest.mark.parametrize("name", ["front", "rtsp___cam/1 ü", "a.b/../c", "50 %", "<b>?#&", "日本", ".."])
    def test_names_with_any_characters(self, page: Page, name: str) -> None:
        page.publish(name, view())
        answer = ask(page, f"/snapshot/{quote(name, safe='')}.png")
        assert answer.status == 200
        picture = cv2.imdecode(np.frombuffer(answer.body, np.uint8), cv2.IMREAD_COLOR_RGB)
        np.testing.assert_array_equal(picture, view().overlay())

    def test_a_stream_is_whole_pictures(self) -> None:
        green = view(overlay=lambda: np.full((8, 8, 3), (10, 200, 30), np.uint8))
        with served() as page, contextlib.closing(HTTPConnection("127.0.0.1", pages.port_of(page))) as client:
            page.publish("front", green)
            client.request("GET", "/stream/front.mjpg")
            stream = client.getresponse()
            assert stream.headers["content-type"] == "multipart/x-mixed-replace; boundary=frame"
            for _ in range(3):
                pixel = cv2.imdecode(_next_part(stream), cv2.IMREAD_COLOR_RGB)[4, 4]
                np.testing.assert_allclose(pixel, (10, 200, 30), atol=8)
                page.publish("front", green)
            stream.close()

    def test_head_of_a_stream_ends(self, page: Page) -> None:
        answer = ask(page, "/stream/front.mjpg", method="HEAD")
        assert answer.status == 200
        assert answer.body == b""

    def test_large_pictures_are_made_smaller_for_the_page_only(self) -> None:
        large = np.zeros((100, 400, 3), np.uint8)
        with served(longest_side=200) as page, pages.Client(page) as client:
            page.publish("front", view(image=large, overlay=lambda: large))
            client.watch(0)
            picture = client.next()
            assert picture is not None
            jpeg = cv2.imdecode(np.frombuffer(picture.jpeg, np.uint8), cv2.IMREAD_COLOR)
            assert jpeg.shape == (50, 200, 3)
            assert picture.header["frame"] == [100, 400]
            png = cv2.imdecode(
                np.frombuffer(ask(page, "/snapshot/front.png").body, np.uint8), cv2.IMREAD_COLOR
            )
            assert png.shape == large.shape


class TestStatus:
    def test_as_json(self) -> None:
        since = State(state="stalled", since_s=0.0, why="no frame")
        front = CameraNumbers(
            captured=9,
            delivered=7,
            dropped={"newer": 2},
            lost={},
            reconnects=1,
            fps_captured=30.0,
            fps_delivered=float("nan"),
            health=since,
        )
        numbers = Numbers(
            seconds=3.0,
            health=since,
            cameras={"front": front},
            stages={"network": StageNumbers(p50_ms=1.234, p95_ms=2.0, p99_ms=3.0)},
            sinks=(SinkNumbers(name="out.mp4", written=7, dropped=0, failed="disk full"),),
        )
        with served(lambda: numbers) as page:
            told = _json(ask(page, "/api/status"))
        assert told["health"]["state"] == "stalled"
        assert told["health"]["for_s"] > 0
        assert "since_s" not in told["health"]
        assert told["stages"]["network"]["p50_ms"] == 1.23
        assert told["sinks"][0]["failed"] == "disk full"
        (camera,) = told["cameras"]
        assert (camera["id"], camera["name"]) == (0, "front")
        assert camera["numbers"]["dropped"] == {"newer": 2}
        assert camera["numbers"]["fps_delivered"] is None

    def test_the_pace_is_measured_by_the_page_itself(self) -> None:
        with served() as page:
            page.publish("front", view(age_ms=40.0))
            assert pages.wait_for(lambda: _json(ask(page, "/api/status"))["cameras"][0]["pace"] is not None)
            _, fps, p50_ms, p99_ms = _json(ask(page, "/api/status"))["cameras"][0]["pace"]
            assert fps > 0
            assert p50_ms == p99_ms == 40.0
            assert _json(ask(page, "/api/status"))["health"] is None

    def test_numbers_that_fail_are_told_to_who_publishes(self) -> None:
        def broken() -> Numbers:
            raise InputError("no such stream")

        with pages.nothing_left(), served(broken) as page, pages.Client(page):
            page.publish("front", view())
            with pytest.raises(SinkError, match="the live page has failed: no such stream"):
                while True:
                    page.publish("front", view())


def cookie_of(page: Page, token: str) -> tuple[str, str]:
    """Name and value."""
    name, _, value = ask(page, f"/?token={token}").headers["set-cookie"].partition(";")[0].partition("=")
    return name, value


class TestToken:
    @pytest.mark.parametrize("path", EVERY_PATH)
    def test_nothing_without_it(self, path: str, guarded: Page) -> None:
        answer = ask(guarded, path)
        assert answer.status == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert "needs a token" in answer.text
        assert ask(guarded, f"{path}?token=another-one-of-them").status == 401
        name, _ = cookie_of(guarded, TOKEN)
        assert ask(guarded, path, Cookie=f"{name}=wrong; x").status == 401

    def test_no_websocket_without_it(self) -> None:
        with served(token=TOKEN) as page:
            with pytest.raises(InvalidStatus) as refused, pages.Client(page):
                pass
            assert refused.value.response.status_code == 401
            with pages.Client(page, additional_headers={"Authorization": f"Bearer {TOKEN}"}) as client:
                assert client.text("hello")["cameras"] == []

    def test_first_in_the_address_then_in_a_cookie(self, guarded: Page) -> None:
        first = ask(guarded, f"/?token={TOKEN}")
        assert first.status == 200
        cookie = first.headers["set-cookie"]
        assert re.fullmatch(f"pixelrt-[0-9a-f]{{8}}={TOKEN}; Path=/; HttpOnly; SameSite=Strict", cookie)
        with_cookie = ask(guarded, "/api/status", Cookie=f"other=1; {cookie.partition(';')[0]}")
        assert with_cookie.status == 200
        assert "set-cookie" not in with_cookie.headers

    def test_two_pages_of_one_name_and_port_have_cookies_of_their_own(self) -> None:
        """Two containers or two tunnels under one name: a browser keeps one cookie of a name for both."""
        other = TOKEN[::-1]
        with served(token=TOKEN) as page:
            port, kept = pages.port_of(page), [cookie_of(page, TOKEN)]
        with served(token=other, port=port) as page:
            kept.append(cookie_of(page, other))
            jar = dict(kept)
            assert set(jar.values()) == {TOKEN, other}
            both = "; ".join(f"{name}={value}" for name, value in jar.items())
            assert ask(page, "/api/status", Cookie=both).status == 200

    def test_in_no_log(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG)
        for name in ("uvicorn.error", "uvicorn.access", "uvicorn.asgi"):
            caplog.set_level(logging.NOTSET, name)  # uvicorn sets them, and this restores them
        wrong = "a-token-with-one-typo"
        with served(token=TOKEN) as page:
            address = f"ws://127.0.0.1:{pages.port_of(page)}/live"
            with connect(f"{address}?token={TOKEN}", proxy=None) as client:
                client.recv()
            with pytest.raises(InvalidStatus), connect(f"{address}?token={wrong}", proxy=None):
                pass
            ask(page, f"/?token={TOKEN}")
        told = [record.getMessage() for record in caplog.records if record.name.startswith("uvicorn")]
        assert any("/live" in text for text in told)
        assert not [text for text in told if TOKEN in text or wrong in text]

    def test_for_tools(self, guarded: Page) -> None:
        assert ask(guarded, f"/snapshot/front.png?token={TOKEN}").status == 200
        assert ask(guarded, "/snapshot/front.png", Authorization=f"bearer {TOKEN}").status == 200
        assert ask(guarded, "/snapshot/front.png", Authorization=f"Basic {TOKEN}").status == 401

    def test_a_person_gets_a_page_with_a_place_for_it(self, guarded: Page) -> None:
        answer = ask(guarded, "/", Accept="text/html,*/*")
        assert answer.status == 401
        assert answer.headers["content-type"].startswith("text/html")
        assert "<form" in answer.text
        assert "<form" not in ask(guarded, "/", Accept="text/html", Origin="http://evil").text

    def test_other_machines_always_need_one(self) -> None:
        with served(host="0.0.0.0") as page:
            token = page.url.partition("?token=")[2]
            assert len(token) >= 24
            assert ask(page).status == 401
            assert ask(page, f"/?token={token}", Host="robot.local:8080").status == 200
        with served(host="0.0.0.0") as again:
            assert again.url.partition("?token=")[2] not in ("", token)

    @pytest.mark.parametrize(
        "token", ["", "short", "with spaces in it", "semicolon;semicolon", "ünicode-ünicode"]
    )
    def test_tokens_that_cannot_be_used(self, token: str) -> None:
        with pytest.raises(InputError, match="expected at least 12 of A-Z a-z 0-9"):
            PageOptions(token=token)


class TestStrangers:
    @pytest.mark.parametrize(
        "host", ["evil.example", "127.0.0.1.evil.example", "", "[::1", "192.168.1.5:8080"]
    )
    @pytest.mark.parametrize("path", ["/", "/api/status", "/stream/front.mjpg"])
    def test_names_that_are_not_this_machine(self, host: str, path: str, page: Page) -> None:
        answer = ask(page, path, Host=host)
        assert answer.status == 403
        assert f"under the name {host!r}" in answer.text

    @pytest.mark.parametrize(
        "host", ["localhost", "LOCALHOST:9", "127.0.0.1:80", "[::1]:8080", "robot.localhost"]
    )
    def test_names_of_this_machine(self, host: str, page: Page) -> None:
        assert ask(page, Host=host).status == 200

    @pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1", "https://[::1"])
    def test_pages_of_others_get_no_websocket(
        self, page: Page, origin: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        with pytest.raises(InvalidStatus) as refused, pages.Client(page, origin=origin):
            pass
        assert refused.value.response.status_code == 403
        assert not caplog.records

    def test_nor_anything_else(self, page: Page) -> None:
        assert ask(page, "/snapshot/front.png", Sec_Fetch_Site="cross-site").status == 403
        assert ask(page, "/snapshot/front.png", Sec_Fetch_Site="same-site").status == 403
        assert ask(page, "/snapshot/front.png", Sec_Fetch_Site="same-origin").status == 200
        assert ask(page, "/", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate").status == 200

    @pytest.mark.parametrize("path", ["/", "/assets/page.js", "/api/status", "/nothing"])
    def test_headers_on_everything(self, path: str, page: Page) -> None:
        for answer in (ask(page, path), ask(page, path, Host="evil.example")):
            policy = answer.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert "frame-ancestors 'none'" in policy
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["referrer-policy"] == "no-referrer"
            assert answer.headers["cross-origin-resource-policy"] == "same-origin"


class TestView:
    @pytest.mark.parametrize(
        ("changes", "text"),
        [
            ({"image": np.zeros((4, 4), np.uint8)}, r"image is uint8\[4, 4\], expected uint8\[H, W, 3\]"),
            ({"image": np.zeros((0, 4, 3), np.uint8)}, "not empty"),
            ({"mask": np.zeros((4, 4), np.int64)}, r"mask is int64\[4, 4\], expected uint8\[h, w\]"),
            ({"confidence": np.zeros((4, 4), np.uint8)}, r"expected uint8\[48, 64\], as the mask"),
        ],
    )
    def test_arrays_that_do_not_fit(self, changes: dict[str, np.ndarray], text: str) -> None:
        with pytest.raises(InputError, match=text):
            view(**changes)


def _json(answer: pages.Answer) -> Any:
    assert answer.status == 200
    return json.loads(answer.body)


def _next_part(stream: HTTPResponse) -> NDArray[np.uint8]:
    head = b"".join(iter(stream.readline, b"\r\n"))
    length = re.search(rb"Content-Length: (\d+)", head)
    assert length is not None
    content = stream.read(int(length[1]) + 2)
    return np.frombuffer(content[:-2], np.uint8)


def test_ctrl_c_as_it_starts_does_not_lose_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    before = set(threading.enumerate())
    page = Page()
    with monkeypatch.context() as meanwhile, pytest.raises(KeyboardInterrupt):
        interrupt_started_threads(meanwhile)
        page.start()
    assert set(threading.enumerate()) > before
    page.stop()
    assert not set(threading.enumerate()) - before
