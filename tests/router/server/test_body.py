"""What may be in a body, and how much."""

import json
from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from edgewise import Router
from tests.support.http.texts import client

JSON = {"content-type": "application/json"}
CANARY = "my-secret-diary"


def post(asking: TestClient, body: bytes) -> dict:
    """The error of a refused body."""
    reply = asking.post("/text", content=body, headers=JSON)
    assert reply.status_code == 400, reply.text
    error: dict = reply.json()["error"]
    assert error["type"] == "invalid_request_error"
    return error


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"prompt": 1}, "prompt"),
        ({"prompt": "x", "max_tokens": "many"}, "max_tokens"),
        ({"prompt": "x", "max_tokens": 1.5}, "max_tokens"),
        ({"prompt": "x", "max_tokens": True}, "max_tokens"),
        ({"prompt": "x", "tags": ["a", 1]}, "tags[1]"),
        ({"prompt": "x", "max_tokens": 0}, "max_tokens"),
        ({"prompt": "x", "max_tokens": 10**30}, "max_tokens"),
        ({}, "prompt"),
    ],
)
def test_the_field_at_fault_is_named(asking: TestClient, body: dict, field: str) -> None:
    """As `param`, whether its type or its value is at fault."""
    assert post(asking, json.dumps(body).encode())["param"] == field


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b'"text"',
        b'{"prompt": "x"',
        b'{"prompt": "x"} {}',
        b'{"prompt": "x", "temperature": NaN}',
        b'{"prompt": "x", "temperature": 1e999}',
        b'{"prompt": "x", "temperature": %b}' % (b"9" * 5000),
        b'{"prompt": "x", "max_tokens": %b}' % (b"9" * 5000),
        b'{"prompt": "%b\xff"}' % CANARY.encode(),
        b'{"prompt": "%b\\ud800"}' % CANARY.encode(),
        b'{"prompt": "x", "z": %b}' % (b"[" * 10**6),
        b'{"prompt": %b}' % (b'{"a":' * 10**5 + b"1" + b"}" * 10**5),
        b"\xef\xbb\xbf{}",
        b"\x00",
    ],
    ids=range(16),
)
def test_what_is_no_json_of_a_request_is_refused(asking: TestClient, body: bytes) -> None:
    """With a sentence that does not quote it."""
    assert CANARY not in json.dumps(post(asking, body))


def test_null_and_unknown_fields_are_as_if_left_out(asking: TestClient) -> None:
    """LangChain sends every field."""
    body = {"prompt": "x", "max_tokens": None, "logit_bias": {}, "unknown": [1, {"deep": None}]}
    assert asking.post("/text", json=body).json()["text"] == "the answer"


@pytest.fixture
def small(router: Router) -> Iterator[TestClient]:
    with client(router, max_body=100) as asking:
        yield asking


def test_a_body_that_is_too_large_is_refused(small: TestClient) -> None:
    """By what it announces, and while it arrives where it announces nothing."""

    def pieces() -> Iterator[bytes]:
        yield b'{"prompt": "'
        yield b"x" * 100

    for content in (b'{"prompt": "%b"}' % (b"x" * 100), pieces()):
        reply = small.post("/text", content=content, headers=JSON)
        assert reply.status_code == 413
        assert "100 bytes" in reply.json()["error"]["message"]


def test_a_body_of_just_that_size_is_read(small: TestClient) -> None:
    """The limit is the last size that is allowed."""
    body = b'{"prompt": "%b"}' % (b"x" * 86)
    assert len(body) == 100
    assert small.post("/text", content=body, headers=JSON).status_code == 200
