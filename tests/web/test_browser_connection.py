"""The live page in a browser when the robot goes away and comes back, and who may look."""

from __future__ import annotations

import re

import pages
from pages import served, view
from playwright.sync_api import BrowserContext, expect
from tabs import CAR, color, grey, opened, shown

from pixelrt.web import Page

_SOCKETS = (
    "const Real = WebSocket; const made = (window.sockets = []);"
    "window.WebSocket = class extends Real { constructor(url) { super(url); made.push(this); } };"
)
"""Remembers the WebSockets of a page."""


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
