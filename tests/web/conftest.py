"""A browser for the tests of the live page; it holds an event loop, so no other module may run beside it."""

from __future__ import annotations

from collections.abc import Iterator

import needs
import pytest
from playwright.sync_api import Browser, BrowserContext, sync_playwright


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser without a window."""
    path = needs.chromium()
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield made
        made.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A window of a desktop."""
    made = browser.new_context(viewport={"width": 1440, "height": 900}, color_scheme="dark")
    yield made
    made.close()
