"""What a person does on the page."""

import re

import pytest
from pages import PATIENCE, URL, until
from playwright.sync_api import Page, Route, expect

expect.set_options(timeout=PATIENCE)


def wait_for_tokens(page: Page, source: str) -> None:
    """Until three tokens of a source are there."""
    page.locator(f"#answer .{source}").nth(2).wait_for(state="attached")


def drag(page: Page, slider: str, share: float) -> None:
    """Drag a slider's thumb with the mouse to a share of its range."""
    box = page.locator(slider).bounding_box()
    value = page.locator(slider).evaluate("it => (it.value - it.min) / (it.max - it.min)")
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + 8 + value * (box["width"] - 16), y)
    page.mouse.down()
    for step in range(1, 6):
        at = value + (share - value) * step / 5
        page.mouse.move(box["x"] + 8 + at * (box["width"] - 16), y)
    page.mouse.up()


def running(page: Page) -> int:
    """Texts that are being written, by the server's metrics: one begun leaves when its compute ends."""
    metrics = page.request.get(f"{URL}/metrics").text()
    counted = r"^edgewise_router_(decisions|handoffs|fallbacks|requests)_total{.*} (\d+)"
    found = re.findall(counted, metrics, re.MULTILINE)
    return sum(int(count) * (1 if what == "decisions" else -1) for what, count in found)


def tab_to(page: Page, name: str) -> None:
    """Press Tab until the element with this id has the focus."""
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == name:
            return
    pytest.fail(f"60 times Tab did not lead to {name}")


def test_the_battery_is_pulled_down_in_mid_text(ours: Page) -> None:
    """The cloud goes on, in its colour, after a mark; Stop ends the text."""
    ours.locator("#prompt").fill("Once upon a time there was a fox")
    ours.get_by_role("button", name="Generate").click()
    wait_for_tokens(ours, "device")
    ours.locator("#charging").uncheck()
    drag(ours, "#battery", 0.02)
    ours.locator("#answer .handoff[data-to=in_cloud]").wait_for(state="attached")
    wait_for_tokens(ours, "cloud")
    expect(ours.locator("body")).to_have_attribute("data-source", "in_cloud")
    assert ours.locator("#device .veto").text_content().strip()
    ours.get_by_role("button", name="Stop").click()
    expect(ours.locator("#answer")).to_have_attribute("aria-busy", "false")
    order = "spans => spans.map(it => it.classList[0])"
    classes = ours.locator("#answer span").evaluate_all(order)
    assert classes.index("device") < classes.index("handoff") < classes.index("cloud")
    assert "device" not in classes[classes.index("handoff") :]


def test_stop_stops_the_compute(ours: Page) -> None:
    """The server writes one text, and then none, far from the end."""
    until(lambda: running(ours) == 0, ours)
    ours.get_by_role("button", name="Generate").click()
    wait_for_tokens(ours, "device")
    assert running(ours) == 1
    ours.get_by_role("button", name="Stop").click()
    until(lambda: running(ours) == 0, ours)
    expect(ours.locator("#answer")).to_have_attribute("aria-busy", "false")
    assert ours.locator("#answer .device").count() < 100


def test_the_keyboard_is_enough(page: Page) -> None:
    """To write a prompt, generate, pull the battery down, and stop; from the top to the bottom."""
    page.goto(URL)
    tab_to(page, "prompt")
    page.keyboard.press("Control+a")
    page.keyboard.type("The wolf")
    tab_to(page, "pace")
    page.keyboard.press("Home")
    page.keyboard.press("Control+Enter")
    wait_for_tokens(page, "device")
    tab_to(page, "battery")
    page.keyboard.press("Home")
    if page.locator("#charging").is_checked():
        tab_to(page, "charging")
        page.keyboard.press("Space")
    wait_for_tokens(page, "cloud")
    page.keyboard.press("Escape")
    expect(page.locator("#answer")).to_have_attribute("aria-busy", "false")
    assert page.locator("#answer .prompt").text_content() == "The wolf"


def test_a_private_text_stays_on_the_device(ours: Page) -> None:
    """Also with an empty battery."""
    ours.locator("#private").check()
    ours.locator("#charging").uncheck()
    drag(ours, "#battery", 0.0)
    ours.get_by_role("button", name="Generate").click()
    wait_for_tokens(ours, "device")
    assert ours.locator("#answer .cloud").count() == 0
    assert ours.locator("#cloud .veto").text_content().strip()


def test_what_is_chosen_before_the_defaults_are_known_is_kept(page: Page) -> None:
    """The server's answer comes late: a text that was made private stays so."""
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page.route("**/v1/edgewise/device*", hold, times=1)
    page.goto(URL)
    page.locator("#private").check()
    page.locator("#mode").select_option("only_on_device")
    until(lambda: held, page)
    held[0].continue_()
    expect(page.locator("#revision")).to_have_text(re.compile("[0-9a-f]{12}"))
    expect(page.locator("#private")).to_be_checked()
    expect(page.locator("#mode")).to_have_value("only_on_device")


def test_the_page_needs_no_other_server(page: Page) -> None:
    """All that it loads comes from ours."""
    loaded: list[str] = []
    page.on("request", lambda request: loaded.append(request.url))
    page.goto(URL, wait_until="networkidle")
    assert len(loaded) > 2
    assert [url for url in loaded if not url.startswith((f"{URL}/", "data:"))] == []
