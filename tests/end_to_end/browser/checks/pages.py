"""Pages of one Chromium, as fixtures: a plugin of pytest."""

import os
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

URL = os.environ["EDGEWISE_URL"]
PATIENCE = 60_000  # ms
# A name of the attacker's that first was the attacker's address, and now is ours.
REBOUND = "evil.example"
OPTIONS = ["--no-sandbox", f"--host-resolver-rules=MAP {REBOUND} 127.0.0.1"]  # root has no sandbox


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The browser that is installed."""
    with sync_playwright() as playwright:
        options = {"executable_path": os.environ["CHROMIUM"], "args": OPTIONS}
        yield playwright.chromium.launch(**options)


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A new tab with no page in it; what its scripts throw fails the test."""
    errors: list[object] = []
    with browser.new_context(reduced_motion="reduce") as context:  # without a GPU, motion costs
        context.set_default_timeout(PATIENCE)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(error))  # noqa: PLW0108  # Playwright marks it
        yield page
    assert not errors


@pytest.fixture
def ours(page: Page) -> Page:
    """Our page, whose text comes a few tokens a second: there is time to change something."""
    page.goto(URL)
    page.locator("#pace").fill("0")
    return page


def until(happened: Callable[[], object], page: Page) -> None:
    """Let the page run until this is true."""
    for _ in range(PATIENCE // 20):
        if happened():
            return
        page.wait_for_timeout(20)
    pytest.fail("it did not happen in a minute")
