"""The token that clients send."""

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from edgewise import Router
from tests.support.http.texts import client


@pytest.fixture
def guarded(router: Router) -> Iterator[TestClient]:
    with client(router, token="secret") as asking:
        yield asking


def test_the_token_opens_everything(guarded: TestClient) -> None:
    """As OpenAI's clients send their key; the scheme's letters may be small."""
    for value in ("Bearer secret", "bearer secret"):
        headers = {"authorization": value}
        assert guarded.post("/text", json={"prompt": "x"}, headers=headers).status_code == 200
        assert guarded.get("/metrics", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "value",
    [
        "Bearer wrong",
        "Bearer secretsecret",
        "Bearer ",
        "Basic secret",
        "secret",
        "Bearer s\xe9cret",
        "",
    ],
)
def test_another_token_opens_nothing(guarded: TestClient, value: str) -> None:
    """401 says which kind is needed, and not what was sent."""
    headers = [(b"authorization", value.encode("latin-1"))]
    for path in ("/text", "/metrics", "/v1/models", "/nowhere", "/health/"):
        reply = guarded.request("POST", path, json={"prompt": "x"}, headers=headers)
        assert reply.status_code == 401
        assert reply.headers["www-authenticate"] == "Bearer"
        assert "secret" not in reply.text.replace("Bearer", "")


def test_two_tokens_open_nothing(guarded: TestClient) -> None:
    """Even if one is right."""
    headers = [("authorization", "Bearer secret"), ("authorization", "Bearer wrong")]
    assert guarded.get("/metrics", headers=headers).status_code == 401


def test_health_needs_no_token(guarded: TestClient) -> None:
    """Whoever watches the service knows none."""
    assert guarded.get("/health").json() == {"status": "ok"}
