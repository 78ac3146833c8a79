"""The page: its headers, and what its three files may and must hold."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from importlib.resources import files
from itertools import product

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from edgewise.server.page import PATHS, routes

HTML, SCRIPT, STYLE = (
    files("edgewise.server.page").joinpath(name).read_text("utf-8")
    for name in ("index.html", "page.js", "page.css")
)
NEEDS_LABEL = {"input", "select", "textarea"}
AA = 4.5  # contrast of text, from WCAG 2.2
GROUNDS, INKS = ("ground", "card"), ("ink", "quiet", "device", "cloud", "alarm")


class Tags(HTMLParser):
    """Collects each start tag with its attributes, and whether a label is around it."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None], bool]] = []
        self._labels = 0
        self.feed(HTML)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """See HTMLParser."""
        self._labels += tag == "label"
        self.found.append((tag, dict(attributes), self._labels > 0))

    def handle_endtag(self, tag: str) -> None:
        """See HTMLParser."""
        self._labels -= tag == "label"

    def values(self, attribute: str) -> list[str]:
        """Of all elements that have it."""
        return [value for _, each, _ in self.found if (value := each.get(attribute))]


@pytest.fixture(name="client")
def fixture_client() -> Iterator[TestClient]:
    with TestClient(Starlette(routes=routes)) as client:
        yield client


@pytest.mark.parametrize("path", sorted(PATHS))
def test_each_file_is_sent_with_strict_headers(client: TestClient, path: str) -> None:
    """Nothing inline, nothing from elsewhere, in nobody's frame, as the type it has."""
    headers = client.get(path).raise_for_status().headers
    policy = dict(
        part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";")
    )
    assert policy == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "connect-src": "'self'",
        "img-src": "'self' data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-opener-policy"] == "same-origin"
    assert headers["content-type"].startswith("text/")


def test_a_file_that_the_browser_has_is_not_sent_again(client: TestClient) -> None:
    """It asks each time, with the tag of what it has."""
    first = client.get("/page.js")
    assert first.headers["cache-control"] == "no-cache"
    again = client.get("/page.js", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert "content-security-policy" in again.headers


def test_nothing_comes_from_elsewhere() -> None:
    """Neither a host's name nor code or style in the HTML, which the policy would refuse."""
    addresses = re.findall(r"https?://[^\s\"'<>)]+|url\([^)]*\)|@import", HTML + SCRIPT + STYLE)
    assert set(addresses) == {"http://www.w3.org/2000/svg"}  # the name of the icon's format
    tags = Tags()
    assert sorted(tags.values("src")) == ["/page.js"]
    assert [link for link in tags.values("href") if not link.startswith("data:")] == ["/page.css"]
    assert not [
        name for _, each, _ in tags.found for name in each if name == "style" or name[:2] == "on"
    ]
    assert not re.search(r"<style|<script(?![^>]* src=)", HTML)


def test_text_never_becomes_html() -> None:
    """What a model writes is a text node."""
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b", SCRIPT)


def test_ids_are_unique_and_those_that_are_used_exist() -> None:
    """In the script, in labels and in ARIA's references."""
    tags = Tags()
    ids = tags.values("id")
    assert len(ids) == len(set(ids))
    references = [*tags.values("for"), *re.findall(r'\$\("([\w-]+)"\)', SCRIPT)]
    for attribute in ("aria-labelledby", "aria-describedby"):
        references += [part for value in tags.values(attribute) for part in value.split()]
    assert set(references) <= set(ids)


def test_each_control_has_a_name() -> None:
    """A label of its own, or one around it; and each button says what it does."""
    tags = Tags()
    labelled = {each.get("for") for tag, each, _ in tags.found if tag == "label"}
    controls = [(each, inside) for tag, each, inside in tags.found if tag in NEEDS_LABEL]
    assert controls
    assert not [each for each, inside in controls if not inside and each.get("id") not in labelled]
    assert all(re.findall(r"<button[^>]*>([^<]*)</button>", HTML))


def test_both_themes_can_be_read() -> None:
    """Each ink has the contrast of WCAG's AA on each ground that it is on."""
    light, dark = (dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", part)) for part in themes())
    for theme in (light, dark):
        pairs = [*product(INKS, GROUNDS), ("device", "device-tint"), ("cloud", "cloud-tint")]
        poor = {pair: contrast(*(theme[name] for name in pair)) for pair in pairs}
        assert {pair: ratio for pair, ratio in poor.items() if ratio < AA} == {}


def themes() -> tuple[str, str]:
    """The variables of the light theme and those of the dark one."""
    blocks = re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)
    return blocks[0], blocks[1]


def contrast(first: str, second: str) -> float:
    """WCAG's ratio, from 1 to 21."""
    dark, light = sorted((luminance(first), luminance(second)))
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    """WCAG's relative luminance of '#rrggbb'."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
