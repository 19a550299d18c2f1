"""The live page for everybody: screen readers, keyboards, small screens, weak eyes."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from typing import Any

import pages
from pages import served, view
from playwright.sync_api import Browser, expect
from playwright.sync_api import Page as Tab

from pixelrt.web import CameraNumbers, Numbers, SinkNumbers, StageNumbers, State

STATES = ("ok", "overloaded", "stalled", "reconnecting", "failed")


def numbers() -> Numbers:
    """A camera in each state."""
    states = {
        state: State(
            state=state, since_s=time.monotonic() - 70, why="" if state == "ok" else f"because {state}"
        )
        for state in STATES
    }
    cameras = {
        name: CameraNumbers(
            captured=1000,
            delivered=990,
            dropped={"newer": 9, "deadline": 1},
            lost={"damaged": 2},
            reconnects=1,
            fps_captured=30.0,
            fps_delivered=29.0,
            health=state,
        )
        for name, state in states.items()
    }
    return Numbers(
        health=states["failed"],
        cameras=cameras,
        stages={"network": StageNumbers(p50_ms=21.0, p95_ms=25.0, p99_ms=31.5)},
        sinks=(
            SinkNumbers(name="a-long-name-of-a-recording.mcap", written=1, dropped=0, failed="disk full"),
        ),
    )


@contextlib.contextmanager
def tab(browser: Browser, *cameras: str, told: Any = None, **context: Any) -> Iterator[Tab]:
    """The page with cameras that have shown a picture."""
    options = {"viewport": {"width": 1280, "height": 900}, **context}
    with served(told, title="road-unet") as page, contextlib.closing(browser.new_context(**options)) as made:
        for name in cameras:
            page.publish(name, view())
        opened = made.new_page()
        opened.goto(page.url)
        for number, _ in enumerate(cameras):
            expect(opened.locator("figure.live").nth(number)).to_be_attached()
        yield opened


class TestScreenReaders:
    def test_what_they_are_told(self, browser: Browser) -> None:
        with tab(browser, "front") as opened:
            expect(opened.get_by_role("slider", name="Opacity")).to_have_value("50")
            expect(opened.locator("body")).to_match_aria_snapshot(
                """
                - link "Skip to the settings of the view"
                - banner:
                  - heading "road-unet" [level=1]
                  - text: View only
                - status
                - main:
                  - region "Cameras":
                    - heading "Cameras" [level=2]
                    - figure:
                      - img /front. road 50 %, car 25 %, sky 25 %/
                    - button "Freeze"
                    - button "Snapshot"
                  - complementary "Settings of the view":
                    - region "Overlay":
                      - heading "Overlay" [level=2]
                      - slider "Opacity"
                      - slider "Confidence threshold"
                    - region "Classes":
                      - heading "Classes" [level=2]
                      - button "Hide all"
                      - list:
                        - listitem:
                          - checkbox "road" [checked]
                        - listitem:
                          - checkbox "car" [checked]
                        - listitem:
                          - checkbox "sky" [checked]
                  - region /Latency/:
                    - img /Latency.*p50.*ms.*p99.*ms/
                  - region /Frame rate/:
                    - img /Frame rate.*fps/
                """
            )

    def test_tables_have_headings_and_states_are_words_too(self, browser: Browser) -> None:
        with tab(browser, *STATES, told=numbers) as opened:
            frames = opened.get_by_role("table").first
            expect(frames.get_by_role("columnheader")).to_have_count(3)
            expect(frames.get_by_role("rowheader", name="Captured")).to_have_count(1)
            assert (
                opened.get_by_role("radiogroup").or_(opened.get_by_role("group", name="Camera")).count() == 1
            )
            expect(opened.get_by_role("radio", name="stalled")).to_have_count(1)
            health = opened.get_by_role("region", name="Health")
            for word in ("All well", "Overloaded", "Stalled", "Reconnecting", "Failed"):
                expect(health.get_by_text(re.compile(f"^{word}, since"))).to_have_count(1)
            marks = {
                opened.locator(f"#states [data-state={state}] use").first.get_attribute("href")
                for state in STATES
            }
            assert len(marks) == len(STATES)

    def test_no_id_twice_and_every_control_has_a_name(self, browser: Browser) -> None:
        with tab(browser, *STATES, told=numbers) as opened:
            ids = opened.evaluate("[...document.querySelectorAll('[id]')].map((node) => node.id)")
            assert len(ids) == len(set(ids))
            for role in ("button", "checkbox", "slider", "radio", "link", "img"):
                for control in opened.get_by_role(role).all():  # type: ignore[arg-type]
                    assert re.search(r'"[^"]+"|: \S', control.aria_snapshot()), control
            assert opened.evaluate("document.documentElement.lang") == "en"


class TestKeyboards:
    def test_everything_in_order_and_with_a_visible_focus(self, browser: Browser) -> None:
        script = """() => {
            const node = document.activeElement;
            const seen = node.matches('.cameras input') ? node.nextElementSibling : node;
            const { outlineStyle, outlineWidth } = getComputedStyle(seen);
            return [node.id || node.type || node.tagName, outlineStyle, parseFloat(outlineWidth)];
        }"""
        with tab(browser, "front", "left") as opened:
            order = []
            for _ in range(11):
                opened.keyboard.press("Tab")
                name, style, width = opened.evaluate(script)
                order.append(name)
                assert style != "none", name
                assert width >= 2, name
        assert order[:8] == [
            "A",
            "radio",
            "freeze",
            "snapshot",
            "whole",
            "opacity",
            "threshold",
            "classes-all",
        ]
        assert order[8:11] == ["checkbox"] * 3

    def test_the_link_past_the_picture(self, browser: Browser) -> None:
        with tab(browser, "front") as opened:
            opened.keyboard.press("Tab")
            opened.keyboard.press("Enter")
            opened.keyboard.press("Tab")
            expect(opened.get_by_role("slider", name="Opacity")).to_be_focused()


class TestScreens:
    def test_nothing_sticks_out(self, browser: Browser) -> None:
        with tab(browser, *STATES, told=numbers) as opened:
            expect(opened.get_by_role("region", name="Health")).to_be_visible()
            for width, height in [(320, 640), (360, 640), (640, 360), (768, 1024), (1440, 900)]:
                opened.set_viewport_size({"width": width, "height": height})
                for text in ("87.5%", "175%") if width >= 768 else ("87.5%",):
                    opened.evaluate(f"document.documentElement.style.fontSize = '{text}'")
                    assert opened.evaluate("document.documentElement.scrollWidth") <= width, (width, text)

    def test_fingers_find_everything(self, browser: Browser) -> None:
        phone = {"viewport": {"width": 360, "height": 640}, "has_touch": True, "is_mobile": True}
        script = """(node) => {
            const target = node.closest('label') ?? node;
            const { width, height } = target.getBoundingClientRect();
            return [target.textContent || target.id, width, height];
        }"""
        with tab(browser, *STATES, told=numbers, **phone) as opened:
            expect(opened.get_by_role("region", name="Health")).to_be_visible()
            for control in opened.locator("button:visible, input:visible").all():
                name, width, height = control.evaluate(script)
                assert height >= 44, name
                assert width >= 44, name

    def test_the_picture_stays_in_sight_of_the_sliders(self, browser: Browser) -> None:
        phone = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
        with tab(browser, "front", **phone) as opened:
            opened.evaluate("scrollTo(0, 500)")
            box = opened.locator("canvas").bounding_box()
            assert box is not None
            assert box["y"] >= -1

    def test_those_without_scripts(self, browser: Browser) -> None:
        with served() as page, contextlib.closing(browser.new_context(java_script_enabled=False)) as made:
            opened = made.new_page()
            opened.goto(page.url)
            expect(opened.get_by_role("main")).to_be_hidden()  # nothing in it would ever change
            expect(opened.get_by_text("Connecting")).to_be_hidden()
            opened.get_by_role("link", name="health and numbers as JSON").click()
            expect(opened.get_by_text('"cameras":[]')).to_be_visible()

    def test_those_who_want_no_motion(self, browser: Browser) -> None:
        script = """() => [...document.querySelectorAll('*')].every((node) => {
            const { transitionDuration, animationName } = getComputedStyle(node);
            return parseFloat(transitionDuration) === 0 && animationName === 'none';
        })"""
        with tab(browser, "front", reduced_motion="reduce") as opened:
            assert opened.evaluate(script)
            opened.emulate_media(reduced_motion="no-preference")
            assert not opened.evaluate(script)


_CONTRAST = """() => {
    const context = new OffscreenCanvas(1, 1).getContext('2d', { willReadFrequently: true });
    const rgba = (color) => {
        context.clearRect(0, 0, 1, 1);
        context.fillStyle = color;
        context.fillRect(0, 0, 1, 1);
        const [red, green, blue, alpha] = context.getImageData(0, 0, 1, 1).data;
        return [red, green, blue, alpha / 255];
    };
    const over = (top, under) => [0, 1, 2].map((at) => top[at] * top[3] + under[at] * (1 - top[3]));
    const ground = (node) => {
        for (let above = node; above; above = above.parentElement) {
            const color = rgba(getComputedStyle(above).backgroundColor);
            if (color[3] > 0.99) return color;
            if (color[3] > 0) return over(color, ground(above.parentElement));
        }
        return [255, 255, 255];
    };
    const light = (color) => {
        const [red, green, blue] = color.slice(0, 3).map((value) => {
            const part = value / 255;
            return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
        });
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
    };
    const ratio = (one, other) => {
        const [low, high] = [light(one), light(other)].sort((a, b) => a - b);
        return (high + 0.05) / (low + 0.05);
    };
    const found = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    for (let text = walker.nextNode(); text; text = walker.nextNode()) {
        const node = text.parentElement;
        if (!text.data.trim() || !node.checkVisibility()) continue;
        if (node.closest('.unseen, .skip, noscript, :disabled')) continue;
        const style = getComputedStyle(node);
        const color = rgba(node instanceof SVGElement ? style.fill : style.color);
        found.push([text.data.trim(), ratio(over(color, ground(node)), ground(node)), 4.5]);
    }
    for (const icon of document.querySelectorAll('.icon')) {
        if (!icon.checkVisibility() || icon.closest(':disabled')) continue;
        const color = rgba(getComputedStyle(icon).color);
        found.push([`icon of ${icon.parentElement.textContent}`, ratio(color, ground(icon)), 3]);
    }
    for (const line of document.querySelectorAll('.chart path')) {
        const stroke = rgba(getComputedStyle(line).stroke);
        found.push([`line ${line.getAttribute('class')}`, ratio(stroke, ground(line)), 3]);
    }
    return found;
}"""


class TestContrast:
    def test_everything_can_be_read(self, browser: Browser) -> None:
        with tab(browser, *STATES, told=numbers) as opened:
            expect(opened.get_by_role("region", name="Stages")).to_be_visible()
            expect(opened.locator(".chart path").first).to_be_attached()
            self._check(opened, 40)
            opened.get_by_role("radio", name="failed").check(force=True)
            expect(opened.locator("#caption")).to_contain_text("frame")
            self._check(opened, 40)

    def test_so_can_bad_news(self, browser: Browser) -> None:
        with served(max_viewers=1) as page, pages.Client(page) as client:
            client.text("hello")
            with contextlib.closing(browser.new_context()) as made:
                opened = made.new_page()
                opened.goto(page.url)
                expect(opened.get_by_role("alert")).to_be_visible()
                self._check(opened, 10)

    def _check(self, opened: Tab, least_found: int) -> None:
        for scheme in ("light", "dark"):
            opened.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            found = opened.evaluate(_CONTRAST)
            assert len(found) > least_found
            assert not [(what, scheme, round(ratio, 2)) for what, ratio, least in found if ratio < least]
