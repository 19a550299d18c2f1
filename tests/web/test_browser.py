"""The live page in a real browser."""

from __future__ import annotations

import dataclasses
import re
import time

import cv2
import numpy as np
import pages
from pages import served, view
from playwright.sync_api import BrowserContext, expect
from tabs import CAR, ROAD, SKY, color, grey, numbers_of, opened, pixel, shown

from pixelrt.manifest import ClassInfo
from pixelrt.web import SinkNumbers, State

EVIL = '<img src=x onerror="window.evil=1">'


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

    def test_a_recording_that_is_called_as_a_camera_is(self, context: BrowserContext) -> None:
        sinks = (SinkNumbers(name="front", written=1, dropped=9, failed="No space left on device"),)
        with served(lambda: numbers_of(State(), "front", sinks=sinks)) as page, opened(context, page) as tab:
            rows = tab.get_by_role("region", name="Health").get_by_role("listitem")
            expect(rows).to_have_count(2)
            expect(rows.first).to_contain_text("All well")
            expect(rows.last).to_contain_text("No space left on device")

    def test_without_numbers(self, context: BrowserContext) -> None:
        with served() as page, opened(context, page) as tab:
            page.publish("front", view())
            expect(tab.locator("#health")).to_have_text(re.compile(r"^\s*Live\s*$"))
            for name in ("Health", "Frames", "Stages"):
                expect(tab.get_by_role("region", name=name)).to_have_count(0)
