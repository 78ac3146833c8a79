"""What X-Edgewise-* headers say."""

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from edgewise import DeviceState, Router
from edgewise.testing import ScriptedCloud, ScriptedDevice
from tests.router.routers import DRAINED
from tests.support.http.texts import client


@pytest.fixture
def both() -> Iterator[Router]:
    device = ScriptedDevice("on the device", first_token=0.1, gap=0.1)
    cloud = ScriptedCloud("in the cloud", first_token=0.01, gap=0.01)
    with Router(device, cloud=cloud, device=DeviceState) as router:
        yield router


@pytest.mark.parametrize(
    ("headers", "source"),
    [
        ({}, "on_device"),
        ({"X-Edgewise-Mode": "only_in_cloud"}, "in_cloud"),
        ({"X-Edgewise-Mode": "Prefer_In_Cloud"}, "in_cloud"),
        ({"X-Edgewise-Mode": "prefer_in_cloud", "X-Edgewise-Privacy": "private"}, "on_device"),
        ({"X-Edgewise-First-Token-Budget": "0.05"}, "in_cloud"),
        ({"X-Edgewise-Latency-Budget": "0.5"}, "in_cloud"),
        ({"X-Edgewise-Latency-Budget": "100"}, "on_device"),
    ],
)
def test_headers_route_a_request(both: Router, headers: dict, source: str) -> None:
    """Mode, privacy and both budgets."""
    with client(both) as asking:
        reply = asking.post("/text", json={"prompt": "x"}, headers=headers)
    assert reply.json()["edgewise"]["source"] == source


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-edgewise-mode", "cloud"),
        ("x-edgewise-privacy", "public"),
        ("x-edgewise-privacy", ""),
        ("x-edgewise-latency-budget", "soon"),
        ("x-edgewise-latency-budget", "nan"),
        ("x-edgewise-latency-budget", "inf"),
        ("x-edgewise-first-token-budget", "-1"),
        ("x-edgewise-first-token-budget", "0"),
        ("x-edgewise-privat", "private"),
        ("x-edgewise-max-tokens", "3"),
    ],
)
def test_an_invalid_header_is_named(asking: TestClient, name: str, value: str) -> None:
    """A misspelt wish for privacy is never taken for none."""
    reply = asking.post("/text", json={"prompt": "x"}, headers={name: value})
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == name


def test_a_header_twice_is_refused(asking: TestClient) -> None:
    """Nobody could say which one counts."""
    headers = [("x-edgewise-privacy", "allow_cloud"), ("x-edgewise-privacy", "private")]
    assert asking.post("/text", json={"prompt": "x"}, headers=headers).status_code == 400


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-Edgewise-Privacy": "allow_cloud"},
        {"X-Edgewise-Mode": "only_in_cloud", "X-Edgewise-Privacy": "allow_cloud"},
        {"X-Edgewise-Mode": "prefer_in_cloud", "X-Edgewise-Latency-Budget": "0.001"},
    ],
)
def test_a_private_server_sends_nothing_to_the_cloud(headers: dict) -> None:
    """Whatever the headers say, and even where the device cannot answer."""
    cloud = ScriptedCloud("in the cloud")
    for state in (DeviceState(), DRAINED):
        with (
            Router(ScriptedDevice("here"), cloud=cloud, device=lambda state=state: state) as router,
            client(router, private=True) as asking,
        ):
            reply = asking.post("/text", json={"prompt": "x"}, headers=headers)
            stream = asking.post("/stream", json={"prompt": "x"}, headers=headers)
        only_cloud = headers.get("X-Edgewise-Mode") == "only_in_cloud"
        assert reply.status_code == stream.status_code == (400 if only_cloud else 200)
    assert not cloud.requests


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", {"prompt": "x", "n": 2}),
        ("/v1/completions", {"prompt": "x", "echo": True, "logprobs": 1, "max_tokens": 0}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}], "stream": True}),
        ("/v1/responses", {"input": "x"}),
        ("/v1/edgewise/generate", {"prompt": "x", "privacy": "allow_cloud"}),
        ("/v1/edgewise/generate", {"prompt": "x", "device": {"battery": 0.01, "charging": False}}),
        ("/v1/edgewise/route", {"prompt": "x", "privacy": "allow_cloud"}),
    ],
)
@pytest.mark.parametrize("mode", ["prefer_in_cloud", "only_in_cloud"])
def test_no_endpoint_of_a_private_server_uses_the_cloud(path: str, body: dict, mode: str) -> None:
    """Whatever header and body say."""
    cloud = ScriptedCloud("in the cloud")
    headers = {"X-Edgewise-Privacy": "allow_cloud", "X-Edgewise-Mode": mode}
    with (
        Router(ScriptedDevice("here"), cloud=cloud) as router,
        client(router, private=True) as asking,
    ):
        reply = asking.post(path, json={"model": "scripted", **body}, headers=headers)
    assert reply.status_code < 500
    assert "in the cloud" not in reply.text
    assert not cloud.requests
