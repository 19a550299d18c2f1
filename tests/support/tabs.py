"""The live page in a tab of a browser: what is seen there, and what it is told."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pages
from pages import CLASSES
from playwright.sync_api import BrowserContext, expect
from playwright.sync_api import Page as Tab

from pixelrt.web import CameraNumbers, Numbers, Page, StageNumbers, State

ROAD, CAR, SKY = (72, 32), (24, 24), (24, 96)
"""Places (row, col) in the picture where each class is."""


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
