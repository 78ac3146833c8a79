"""Which web pages may use the server."""

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from edgewise import Router
from tests.support.http.texts import client

LISTED = "http://app.example:3000"


@pytest.fixture
def listing(router: Router) -> Iterator[TestClient]:
    with client(router, allowed_origins=(LISTED,), token="secret") as asking:
        yield asking


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "null",
        "http://localhost:3000",
        "https://localhost:8765",
        "http://localhost",
        "http://localhost:8765.evil.example",
        "",
        "*",
    ],
)
def test_other_pages_are_refused_whatever_they_ask(asking: TestClient, origin: str) -> None:
    """Not merely by a missing header: nothing is done for them. A sandboxed page's origin is null."""
    device = asking.app.state.service.router.device_source
    for reply in (
        asking.post("/text", json={"prompt": "x"}, headers={"origin": origin}),
        asking.get("/health", headers={"origin": origin}),
        asking.options(
            "/text", headers={"origin": origin, "access-control-request-method": "POST"}
        ),
    ):
        assert reply.status_code == 403
        assert not [name for name in reply.headers if name.startswith("access-control")]
    assert not device.requests


def test_its_own_page_and_programs_are_answered(asking: TestClient) -> None:
    """A program sends no Origin; the server's own page sends the server's address."""
    assert asking.post("/text", json={"prompt": "x"}).status_code == 200
    own = {"origin": "http://localhost:8765"}
    assert asking.post("/text", json={"prompt": "x"}, headers=own).status_code == 200


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
@pytest.mark.parametrize("dest", ["script", "image", "iframe", "empty", "style"])
def test_a_page_that_loads_it_without_an_origin_is_refused(
    asking: TestClient, site: str, dest: str
) -> None:
    """As a script, an image, or by a fetch that cannot read the reply. Another port is same-site."""
    headers = {"sec-fetch-site": site, "sec-fetch-dest": dest, "sec-fetch-mode": "no-cors"}
    for path in ("/v1/edgewise/device", "/metrics", "/health", "/"):
        assert asking.get(path, headers=headers).status_code == 403


@pytest.mark.parametrize("site", ["none", "same-origin", "cross-site"])
def test_a_link_to_the_page_may_be_followed(asking: TestClient, site: str) -> None:
    """From anywhere: who placed it reads nothing."""
    headers = {"sec-fetch-site": site, "sec-fetch-dest": "document", "sec-fetch-mode": "navigate"}
    assert asking.get("/", headers=headers).status_code == 200


def test_a_listed_page_is_answered_and_may_read_the_reply(listing: TestClient) -> None:
    """Without permission for cookies: the token says who may."""
    headers = {"origin": LISTED, "authorization": "Bearer secret"}
    reply = listing.post("/text", json={"prompt": "x"}, headers=headers)
    assert reply.status_code == 200
    assert reply.headers["access-control-allow-origin"] == LISTED
    assert reply.headers["vary"] == "origin"
    assert "access-control-allow-credentials" not in reply.headers


def test_a_listed_page_can_read_why_it_is_refused(listing: TestClient) -> None:
    """An error reply carries the same headers."""
    reply = listing.post("/text", json={"prompt": "x"}, headers={"origin": LISTED})
    assert reply.status_code == 401
    assert reply.headers["access-control-allow-origin"] == LISTED


def test_a_preflight_of_a_listed_page_needs_no_token(listing: TestClient) -> None:
    """It allows what OpenAI's client sends, and nothing that it was not asked for."""
    reply = listing.options(
        "/v1/completions",
        headers={
            "origin": LISTED,
            "access-control-request-method": "POST",
            "access-control-request-headers": "authorization,content-type,x-stainless-os,cookie",
            "access-control-request-private-network": "true",
        },
    )
    assert reply.status_code == 204
    allowed = reply.headers["access-control-allow-headers"]
    assert allowed == "authorization, content-type, x-stainless-os"
    assert reply.headers["access-control-allow-private-network"] == "true"
    assert "access-control-allow-credentials" not in reply.headers
