"""The live page in a real browser."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import time
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import pages
import pytest
from pages import CLASSES, served, view
from playwright.sync_api import Browser, BrowserContext, expect
from playwright.sync_api import Page as Tab

from pixelrt.manifest import ClassInfo
from pixelrt.web import CameraNumbers, Numbers, Page, SinkNumbers, StageNumbers, State

EVIL = '<img src=x onerror="window.evil=1">'
ROAD, CAR, SKY = (72, 32), (24, 24), (24, 96)
"""Places (row, col) in the picture where each class is."""
_SOCKETS = (
    "const Real = WebSocket; const made = (window.sockets = []);"
    "window.WebSocket = class extends Real { constructor(url) { super(url); made.push(this); } };"
)
"""Remembers the WebSockets of a page."""


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    made = browser.new_context(viewport={"width": 1440, "height": 900}, color_scheme="dark")
    yield made
    made.close()


@contextlib.contextmanager
def opened(context: BrowserContext, page: Page, path: str = "") -> Iterator[Tab]:
    """The page in a tab, in which nothing goes wrong and which asks nobody else."""
    tab = context.new_page()
    problems: list[str] = []
    tab.on("pageerror", lambda error: problems.append(str(error)))
    tab.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    tab.on("request", lambda request: asked.append(request.url))
    asked: list[str] = []
    tab.goto(page.url + path)
    yield tab
    tab.close()
    # while the page is away
    refused = re.compile("ERR_(CONNECTION_REFUSED|INTERNET_DISC)|WebSocket connection to")
    assert not [text for text in problems if not refused.search(text)]
    origin = page.url.partition("?")[0] or asked[0]
    assert {re.match(r"https?://[^/]+/|data:|blob:|ws:", url)[0] for url in asked} <= {  # type: ignore[index]
        *re.findall(r"^https?://[^/]+/", origin),
        "data:",
        "blob:",
        "ws:",
    }


def pixel(tab: Tab, place: tuple[int, int], number: int = 0) -> list[int]:
    """Of a camera's canvas, red, green and blue."""
    script = """([row, col, number]) => [...document.querySelectorAll("canvas")[number].getContext("2d")
        .getImageData(col, row, 1, 1).data.slice(0, 3)]"""
    return list(tab.evaluate(script, [*place, number]))


def shown(tab: Tab, place: tuple[int, int], expected: np.ndarray, number: int = 0) -> None:
    """Wait until a pixel is as expected, but for what JPEG changes."""

    def fits() -> bool:
        return bool(np.all(np.abs(np.array(pixel(tab, place, number)) - expected) <= 4))

    expect(tab.locator("canvas").nth(number)).to_be_visible()
    # Playwright's own wait_for_function uses eval, which the page forbids
    assert pages.wait_for(fits, 10), (pixel(tab, place, number), expected)


def grey(index: int = 0) -> np.ndarray:
    return np.full(3, 40 + index, float)


def color(number: int) -> np.ndarray:
    return np.array(CLASSES[number].color, float)


def numbers_of(state: State, *names: str, **changes: Any) -> Numbers:
    camera = CameraNumbers(
        captured=12345,
        delivered=12000,
        dropped={"newer": 345},
        lost={"damaged": 3},
        reconnects=2,
        fps_captured=30.0,
        fps_delivered=29.2,
        health=state,
    )
    stage = StageNumbers(p50_ms=21.0, p95_ms=25.0, p99_ms=31.5)
    return Numbers(
        health=state,
        cameras=dict.fromkeys(names, camera),
        stages={"network": stage, "capture to delivery": stage},
        **changes,
    )


class TestPicture:
    def test_opacity_acts_at_once_by_keyboard(self, context: BrowserContext) -> None:
        with served() as page, opened(context, page) as tab:
            page.publish("front", view())
            shown(tab, CAR, 0.5 * grey() + 0.5 * color(1))
            shown(tab, ROAD, 0.5 * grey() + 0.5 * color(0))
            opacity = tab.get_by_role("slider", name="Opacity")
            opacity.press("End")
            shown(tab, SKY, color(2))
            expect(tab.get_by_text("100 %", exact=True)).to_be_visible()
            opacity.press("Home")
            shown(tab, SKY, grey())
            for _ in range(25):
                opacity.press("ArrowRight")
            shown(tab, SKY, 0.75 * grey() + 0.25 * color(2))

    def test_classes_are_switched_off_by_keyboard(self, context: BrowserContext) -> None:
        with served() as page, opened(context, page) as tab:
            page.publish("front", view())
            shown(tab, CAR, 0.5 * grey() + 0.5 * color(1))
            car = tab.get_by_role("checkbox", name="car")
            car.press("Space")
            expect(car).not_to_be_checked()
            shown(tab, CAR, grey())
            shown(tab, ROAD, 0.5 * grey() + 0.5 * color(0))
            tab.get_by_role("button", name="Hide all").click()
            shown(tab, ROAD, grey())
            tab.get_by_role("button", name="Show all").click()
            shown(tab, CAR, 0.5 * grey() + 0.5 * color(1))

    def test_below_the_threshold_it_is_unknown(self, context: BrowserContext) -> None:
        with served() as page, opened(context, page) as tab:
            page.publish("front", view())
            rows = tab.get_by_role("list").get_by_role("listitem")
            expect(rows).to_have_text(["road50 %", "car25 %", "sky25 %"])
            threshold = tab.get_by_role("slider", name="Confidence threshold")
            threshold.fill("60")  # the car's confidence is 153 / 255
            expect(rows).to_have_text(["road50 %", "car25 %", "sky25 %", "unknown0 %"])
            threshold.press("ArrowRight")
            expect(rows).to_have_text(["road50 %", "car0 %", "sky25 %", "unknown25 %"])
            found = {tuple(pixel(tab, (CAR[0], CAR[1] + shift))) for shift in range(0, 24, 2)}
            assert len(found) > 1  # hatched
            assert all(max(values) - min(values) <= 8 for values in found)  # and grey
            tab.get_by_role("checkbox", name="unknown").press("Space")
            shown(tab, CAR, grey())

    def test_each_viewer_has_settings_of_its_own(self, context: BrowserContext) -> None:
        with served() as page, opened(context, page) as one, opened(context, page) as other:
            page.publish("front", view())
            one.get_by_role("slider", name="Opacity").press("End")
            shown(one, CAR, color(1))
            shown(other, CAR, 0.5 * grey() + 0.5 * color(1))
            with pages.Client(page) as client:
                client.watch(0)
                picture = client.next()
                assert picture is not None
                assert set(np.unique(picture.mask)) == {0, 1, 2}

    def test_without_confidence_there_is_no_threshold(self, context: BrowserContext) -> None:
        with served() as page, opened(context, page) as tab:
            page.publish("front", view(confidence=None))
            expect(tab.get_by_text("This bundle emits no confidence")).to_be_visible()
            expect(tab.get_by_role("slider", name="Confidence threshold")).to_be_disabled()

    def test_it_goes_on(self, context: BrowserContext) -> None:
        with served() as page, opened(context, page) as tab:
            for index in range(5):
                page.publish("front", view(30 * index))
                shown(tab, ROAD, 0.5 * grey(30 * index) + 0.5 * color(0))
            expect(tab.get_by_text("frame 120")).to_be_visible()
            pause = tab.get_by_role("button", name="Freeze")
            pause.press("Enter")
            expect(pause).to_have_attribute("aria-pressed", "true")
            expect(tab.get_by_text("frozen · frame 120")).to_be_visible()
            page.publish("front", view(0))
            tab.get_by_role("slider", name="Opacity").press("Home")
            shown(tab, ROAD, grey(120))  # settings act on the picture that is held
            pause.press("Enter")
            shown(tab, ROAD, grey(0))

    def test_frozen_while_a_picture_is_decoded(self, context: BrowserContext) -> None:
        context.add_init_script(
            "const decode = window.createImageBitmap; window.createImageBitmap = async (...all) => {"
            " await new Promise((go) => setTimeout(go, 400)); return decode(...all); };"
        )
        with served() as page, opened(context, page) as tab:
            page.publish("front", view(0))
            shown(tab, ROAD, 0.5 * grey() + 0.5 * color(0))
            page.publish("front", view(30))
            tab.wait_for_timeout(100)
            freeze = tab.get_by_role("button", name="Freeze")
            freeze.press("Enter")
            tab.wait_for_timeout(600)
            freeze.press("Enter")
            page.publish("front", view(60))
            shown(tab, ROAD, 0.5 * grey(60) + 0.5 * color(0))

    def test_a_snapshot_is_what_is_seen(self, context: BrowserContext) -> None:
        with served() as page, opened(context, page) as tab:
            page.publish("rtsp___cam/1 ü", view(7))
            tab.get_by_role("slider", name="Opacity").press("End")
            shown(tab, CAR, color(1))
            with tab.expect_download() as download:
                tab.get_by_role("button", name="Snapshot").click()
            assert download.value.suggested_filename == "rtsp___cam_1_ü-7.png"
            picture = cv2.imread(str(download.value.path()), cv2.IMREAD_COLOR_RGB)
            assert picture.shape == (*pages.IMAGE_SIZE, 3)
            np.testing.assert_allclose(picture[CAR], color(1), atol=4)

    def test_another_size_in_the_middle(self, context: BrowserContext) -> None:
        with served() as page, opened(context, page) as tab:
            page.publish("front", view())
            caption = tab.locator("#caption")
            expect(caption).to_contain_text(re.compile("96.\u00d7.128 · network 48.\u00d7.64"))
            small = np.zeros((24, 32), np.uint8)
            page.publish("front", view(mask=small, confidence=None, image=np.full((48, 64, 3), 90, np.uint8)))
            expect(caption).to_contain_text(re.compile("48.\u00d7.64 · network 24.\u00d7.32"))
            shown(tab, (24, 32), 0.5 * np.full(3, 90) + 0.5 * color(0))


class TestCameras:
    def test_all_or_one(self, context: BrowserContext) -> None:
        with served() as page, opened(context, page) as tab:
            for index, name in enumerate(("front", "left", "rear")):
                page.publish(name, view(10 * index))
            for index in range(3):
                shown(tab, ROAD, 0.5 * grey(10 * index) + 0.5 * color(0), index)
            expect(tab.get_by_role("radio")).to_have_count(4)
            tab.get_by_role("radio", name="All").focus()
            tab.keyboard.press("ArrowRight")
            tab.keyboard.press("ArrowRight")
            expect(tab.get_by_role("radio", name="left")).to_be_checked()
            expect(tab.locator("canvas:visible")).to_have_count(1)
            page.publish("left", view(77))
            expect(tab.get_by_text("frame 77")).to_be_visible()
            with tab.expect_download() as download:
                tab.get_by_role("button", name="Snapshot").click()
            assert download.value.suggested_filename == "left-77.png"
            tab.get_by_role("radio", name="All").check(force=True)
            expect(tab.locator("canvas:visible")).to_have_count(3)
            with tab.expect_download() as download:
                tab.get_by_role("button", name="Snapshot").click()
            picture = cv2.imread(str(download.value.path()))
            assert picture.shape == (2 * pages.IMAGE_SIZE[0], 2 * pages.IMAGE_SIZE[1], 3)

    def test_two_of_which_one_has_no_picture(self, context: BrowserContext) -> None:
        gone = State(state="failed", since_s=time.monotonic(), why="not there")
        both = {**numbers_of(State(), "front").cameras, **numbers_of(State(), "rear").cameras}
        told = [dataclasses.replace(numbers_of(State()), cameras=both)]
        with served(lambda: told[0]) as page, opened(context, page) as tab:
            page.publish("front", view())
            page.announce("rear")
            caption, snapshot = tab.locator("#caption"), tab.get_by_role("button", name="Snapshot")
            expect(caption).to_have_text(re.compile("^2 cameras · network 48.\u00d7.64$"))
            page.publish("front", view(network=(192, 256)))
            expect(caption).to_have_text(re.compile("^2 cameras · network 192.\u00d7.256$"))
            with tab.expect_download() as download:
                snapshot.click()
            assert re.fullmatch(r"cameras-\d{8}T\d{6}Z\.png", download.value.suggested_filename)
            for width, height, stacked in ((390, 844, True), (844, 390, False)):
                tab.set_viewport_size({"width": width, "height": height})
                front, rear = (tile.bounding_box() for tile in tab.locator("figure").all())
                assert front is not None and rear is not None
                assert (front["x"] == rear["x"]) is stacked
            expect(tab.get_by_text("Waiting for the first picture")).to_have_count(2)  # one of them hidden
            told[0] = dataclasses.replace(told[0], cameras={**both, **numbers_of(gone, "rear").cameras})
            expect(tab.get_by_text("No picture came")).to_be_visible()
            tab.get_by_role("radio", name="rear").check(force=True)
            expect(snapshot).to_be_disabled()
            page.publish("rear", view(mask=np.zeros((24, 32), np.uint8), confidence=None))
            expect(snapshot).to_be_enabled()
            tab.get_by_role("radio", name="All").check(force=True)
            expect(caption).to_have_text(re.compile("network 192.\u00d7.256 and 24.\u00d7.32$"))

    def test_names_are_text(self, context: BrowserContext) -> None:
        classes = tuple(ClassInfo(name=f"{EVIL}{number}", color=(1, 2, 3)) for number in range(3))
        why = State(state="stalled", why=f"{EVIL} why")
        sinks = (SinkNumbers(name=EVIL, written=0, dropped=0, failed=EVIL),)
        told = numbers_of(why, EVIL, "other", sinks=sinks)
        with served(lambda: told, title=EVIL) as page, opened(context, page) as tab:
            page.publish(EVIL, view(classes=classes))
            page.publish("other", view())
            expect(tab.get_by_role("heading", level=1)).to_have_text(EVIL)
            expect(tab.get_by_role("checkbox", name=f"{EVIL}2")).to_be_visible()
            expect(tab.get_by_text(f"{EVIL} why").first).to_be_visible()
            expect(tab.locator("img")).to_have_count(0)
            assert tab.evaluate("window.evil") is None


class TestNumbers:
    def test_what_the_robot_tells(self, context: BrowserContext) -> None:
        since = State(state="overloaded", since_s=time.monotonic() - 200, why="the network takes 61 ms")
        sinks = (SinkNumbers(name="drive.mp4", written=12000, dropped=7),)
        told = numbers_of(since, "front", sinks=sinks)
        with served(lambda: told) as page, opened(context, page) as tab:
            for _ in range(10):
                page.publish("front", view(age_ms=42.0))
            health = tab.locator("#health")
            expect(health).to_contain_text("Overloaded")
            expect(health).to_contain_text("3 min")
            expect(tab.locator("#health-why")).to_have_text("the network takes 61 ms")
            frames = tab.get_by_role("region", name="Frames")
            expect(frames.get_by_role("row", name="Captured")).to_contain_text("12\u202f345")
            expect(frames.get_by_role("row", name="replaced by a newer frame")).to_contain_text("345")
            expect(frames.get_by_role("row", name="replaced by a newer frame")).to_contain_text("3 %")
            expect(frames.get_by_role("row", name="Written to drive.mp4")).to_contain_text("7 left out")
            stages = tab.get_by_role("region", name="Stages")
            expect(stages.get_by_role("row", name="network")).to_contain_text("32")
            latency = tab.get_by_role("region", name="Latency")
            expect(latency).to_contain_text("42 ms")
            expect(latency.get_by_role("img")).to_have_attribute(
                "aria-label", re.compile("p50 42 ms, p99 42 ms")
            )
            expect(latency.locator("path.first")).to_have_attribute("d", re.compile(r"^M[\d.]+ [\d.]+"))

    def test_a_plot_tells_its_values_under_the_pointer(self, context: BrowserContext) -> None:
        with served() as page, opened(context, page) as tab:
            page.publish("front", view(age_ms=42.0))
            latency = tab.locator("#latency")
            expect(latency.locator("path.first")).to_have_attribute("d", re.compile("L"))
            box = latency.bounding_box()
            assert box is not None
            latency.hover(position={"x": box["width"] - 12, "y": 40})
            expect(latency.locator(".read")).to_have_text("42.0 ms · 42.0 ms")
            tab.get_by_role("heading", name="Latency").hover()
            expect(latency.locator(".read")).to_have_count(0)

    def test_a_change_of_health_is_announced(self, context: BrowserContext) -> None:
        states = [State()]
        with served(lambda: numbers_of(states[0], "front")) as page, opened(context, page) as tab:
            page.publish("front", view())
            expect(tab.locator("#health")).to_contain_text("All well")
            announcer = tab.get_by_role("status").filter(has_text="Reconnecting")
            expect(announcer).to_have_count(0)
            states[0] = State(state="reconnecting", since_s=time.monotonic(), why="connection refused")
            expect(announcer).to_have_text("Reconnecting: connection refused")
            states[0] = State(since_s=time.monotonic())
            expect(tab.get_by_role("status").filter(has_text="All well")).to_have_count(1)

    def test_a_camera_that_has_ended(self, context: BrowserContext) -> None:
        ended = State(state="ended", since_s=time.monotonic() - 200)
        both = {**numbers_of(ended, "front").cameras, **numbers_of(State(), "rear").cameras}
        told = dataclasses.replace(numbers_of(State()), cameras=both)
        with served(lambda: told) as page, opened(context, page) as tab:
            for name in both:
                page.announce(name)
            expect(tab.locator("#health")).to_contain_text("All well")
            rows = tab.get_by_role("region", name="Health").get_by_role("listitem")
            expect(rows.filter(has_text="front")).to_contain_text("Ended, since")
            expect(rows.filter(has_text="front")).to_contain_text("3 min")
            expect(rows.filter(has_text="rear")).to_contain_text("All well")
            expect(tab.get_by_text("front: ended")).to_be_visible()
            tab.emulate_media(color_scheme="light")
            icon = np.frombuffer(tab.locator(".badge svg").first.screenshot(), np.uint8)
            grey_icon = cv2.imdecode(icon, cv2.IMREAD_GRAYSCALE)
            assert np.ptp(grey_icon[3:-3, 3:-3]) > 150  # a square in a circle
            page.publish("front", view())
            page.publish("rear", view())
            expect(tab.locator("#rate-readings")).to_contain_text("lowest: rear")
            expect(tab.locator("#latency-readings")).to_contain_text("highest p99: rear")

    def test_a_recording_that_failed(self, context: BrowserContext) -> None:
        sinks = (SinkNumbers(name="drive.mp4", written=1, dropped=9, failed="No space left on device"),)
        with served(lambda: numbers_of(State(), "front", sinks=sinks)) as page, opened(context, page) as tab:
            health = tab.get_by_role("region", name="Health")
            expect(health).to_contain_text("drive.mp4")
            expect(health).to_contain_text("No space left on device")

    def test_without_numbers(self, context: BrowserContext) -> None:
        with served() as page, opened(context, page) as tab:
            page.publish("front", view())
            expect(tab.locator("#health")).to_have_text(re.compile(r"^\s*Live\s*$"))
            for name in ("Health", "Frames", "Stages"):
                expect(tab.get_by_role("region", name=name)).to_have_count(0)


class TestConnection:
    def test_it_comes_back_by_itself(self, context: BrowserContext) -> None:
        page = Page(pages.PageOptions(port=0))
        page.start()
        port = pages.port_of(page)
        for name in ("front", "rear"):
            page.publish(name, view())
        with opened(context, page) as tab:
            tab.get_by_role("radio", name="front").check(force=True)
            shown(tab, CAR, 0.5 * grey() + 0.5 * color(1))
            page.stop()
            notice = tab.get_by_role("alert")
            expect(notice).to_contain_text(re.compile("The run ended at [0-9:]{8}: pictures and figures are"))
            expect(tab.locator("#health")).to_have_text(re.compile(r"^\s*Ended\s*$"))
            expect(tab.get_by_text("front: ended")).to_be_visible()
            again = Page(pages.PageOptions(port=port))
            assert pages.wait_for(lambda: _starts(again))
            for name in ("left", "front"):  # in another place now
                again.publish(name, view(50))
            expect(notice).to_be_hidden(timeout=20_000)
            expect(tab.get_by_role("radio", name="front")).to_be_checked()
            shown(tab, CAR, 0.5 * grey(50) + 0.5 * color(1), 1)
            expect(tab.get_by_role("status").filter(has_text="Connected again.")).to_have_count(1)
            again.stop()

    def test_one_that_is_cut_off_is_not_at_its_end(self, context: BrowserContext) -> None:
        with served() as page:
            page.publish("front", view())
            context.add_init_script(_SOCKETS)
            with opened(context, page) as tab:
                shown(tab, CAR, 0.5 * grey() + 0.5 * color(1))
                context.set_offline(True)
                tab.evaluate("window.sockets.at(-1).close()")
                notice = tab.get_by_role("alert")
                expect(notice).to_contain_text(re.compile("Not connected since [0-9:]{8}: pictures and"))
                expect(tab.locator("#health")).to_contain_text("Not connected")
                tab.evaluate("window.fetch = async () => ({ status: 401 })")
                expect(notice).to_contain_text("The token is not valid any more")
                context.set_offline(False)
                expect(notice).to_be_hidden(timeout=20_000)

    def test_connected_again_before_it_is_known_why(self, context: BrowserContext) -> None:
        context.add_init_script(
            f"{_SOCKETS} window.fetch = () => "
            "new Promise((go) => setTimeout(go, 1200, { status: 401 })).finally(() => (window.told = 1));"
        )
        with served() as page, opened(context, page) as tab:
            page.publish("front", view())
            shown(tab, CAR, 0.5 * grey() + 0.5 * color(1))
            said = tab.evaluate(
                """() => new Promise((go) => {
                    const socket = window.sockets.at(-1);
                    socket.addEventListener("close", () => go(document.getElementById("notice").textContent));
                    socket.close();
                })"""
            )
            assert said.startswith("Not connected since")  # at once
            assert pages.wait_for(lambda: tab.evaluate("window.told === 1"), 10)
            assert tab.evaluate("window.sockets.at(-1).readyState") == 1
            expect(tab.get_by_role("alert")).to_be_hidden()
            assert tab.evaluate("document.body.className") == ""

    def test_the_token_leaves_the_address(self, context: BrowserContext) -> None:
        with served(token="a-token-of-many-letters") as page, opened(context, page) as tab:
            page.publish("front", view())
            shown(tab, CAR, 0.5 * grey() + 0.5 * color(1))
            assert "token" not in tab.url
            tab.reload()
            shown(tab, CAR, 0.5 * grey() + 0.5 * color(1))
            assert tab.evaluate("document.cookie") == ""

    def test_too_many_viewers(self, context: BrowserContext) -> None:
        with served(max_viewers=1) as page, pages.Client(page) as client:
            client.text("hello")
            with opened(context, page) as tab:
                expect(tab.get_by_role("alert")).to_contain_text("1 viewers look already; try again later")


def _starts(page: Page) -> bool:
    try:
        page.start()
    except pages.SinkError:
        return False
    return True
