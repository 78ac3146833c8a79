"""The page for everybody: axe-core's rules, dark and light, a phone and a desk."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from pages import URL
from playwright.sync_api import Page


def faults(page: Page) -> list[str]:
    """What axe-core calls serious or critical."""
    found = Axe().run(page).response["violations"]
    return [
        f"{fault['id']}: {[node['html'] for node in fault['nodes']]}"
        for fault in found
        if fault["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_axe_finds_no_serious_fault(ours: Page, scheme: str) -> None:
    """Before a text, and with one that both sources wrote."""
    ours.emulate_media(color_scheme=scheme)
    assert faults(ours) == []
    ours.locator("#generate").click()
    ours.locator("#answer .device").first.wait_for(state="attached")
    ours.locator("#charging").uncheck()
    ours.locator("#battery").fill("1")
    ours.locator("#answer .cloud").first.wait_for(state="attached")
    ours.locator("#stop").click()
    ours.locator("#answer[aria-busy=false]").wait_for()
    assert faults(ours) == []


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_screen(page: Page, width: int) -> None:
    """On a phone and on a desk."""
    page.set_viewport_size({"width": width, "height": 844})
    page.goto(URL)
    page.locator("#generate").click()
    page.locator("#answer .device").nth(9).wait_for(state="attached")
    wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.evaluate(wide) <= 0
