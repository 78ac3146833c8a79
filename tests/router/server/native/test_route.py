"""POST /v1/edgewise/route and GET /v1/edgewise/device."""

import asyncio
from dataclasses import asdict

import pytest

from edgewise.generation.result import decision_dict
from tests.router.routers import FINE
from tests.router.server.native.asgi import ask
from tests.router.server.native.conftest import Serve

ROUTE, DEVICE = "/v1/edgewise/route", "/v1/edgewise/device"


def test_route_replies_the_decision(serve: Serve) -> None:
    """As `edgewise route --json`; nothing is written."""
    served = serve()
    status, told = asyncio.run(ask(served.app, "POST", ROUTE, {"prompt": "Once"}))
    assert (status, told) == (200, decision_dict(served.router.route("Once")))
    assert not served.device.requests


@pytest.mark.parametrize(
    ("assumed", "source", "code"),
    [
        ({"battery": 0.05}, "on_device", "battery"),
        ({"temperature": 110, "charging": True}, "on_device", "temperature"),
        ({"memory_pressure": 0.9}, "on_device", "memory"),
        ({"low_power_mode": True}, "on_device", "low_power"),
        ({"network": False}, "in_cloud", "no_network"),
    ],
)
def test_route_assumes_another_device(serve: Serve, assumed: dict, source: str, code: str) -> None:
    """What is left out, or null, is as it is."""
    content = {"prompt": "Once", "device": {"available_memory": None} | assumed}
    _, told = asyncio.run(ask(serve().app, "POST", ROUTE, content))
    assert told["vetoes"][source]["code"] == code
    assert told["source"] != source


def test_refusal_is_a_decision_too(serve: Serve) -> None:
    """With the vetoes, and what to do."""
    content = {"prompt": "Once", "mode": "only_in_cloud", "privacy": "private"}
    status, told = asyncio.run(ask(serve().app, "POST", ROUTE, content))
    assert (status, told["refused"], told["source"]) == (200, True, None)
    assert {name: veto["code"] for name, veto in told["vetoes"].items()} == {
        "on_device": "mode",
        "in_cloud": "private",
    }
    assert "choose another mode" in told["message"]


@pytest.mark.parametrize(
    ("content", "param"),
    [
        ({}, "prompt"),
        ({"prompt": "Once", "stop": [""]}, "stop"),
        ({"prompt": "Once", "stop": ["x"] * 65}, "stop"),
        ({"prompt": 5}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": "Once", "max_tokens": 0}, "max_tokens"),
        ({"prompt": "Once", "mode": "cloud"}, "mode"),
        ({"prompt": "Once", "privacy": "secret"}, "privacy"),
        ({"prompt": "Once", "latency_budget": "soon"}, "latency_budget"),
        ({"prompt": "Once", "device": {"battery": 85}}, "device.battery"),
        ({"prompt": "Once", "device": {"network": "no"}}, "device.network"),
    ],
)
@pytest.mark.parametrize("path", [ROUTE, "/v1/edgewise/generate"])
def test_invalid_field_is_named(serve: Serve, path: str, content: dict, param: str | None) -> None:
    """By OpenAI's error body, before anything runs."""
    status, told = asyncio.run(ask(serve().app, "POST", path, content))
    assert (status, told["error"]["type"]) == (400, "invalid_request_error")
    assert told["error"]["param"] == param


@pytest.mark.parametrize(
    ("settings", "headers", "field"),
    [
        ({"private": True}, {}, "allow_cloud"),
        ({}, {"x_edgewise_privacy": "private"}, "allow_cloud"),
        ({}, {"x_edgewise_privacy": "allow_cloud"}, "private"),
        ({"private": True}, {"x_edgewise_privacy": "allow_cloud"}, None),
    ],
)
def test_private_wins(serve: Serve, settings: dict, headers: dict, field: str | None) -> None:
    """Whoever says it: the server, a header, or a field."""
    content = {"prompt": "Once", "privacy": field, "mode": "prefer_in_cloud"}
    _, told = asyncio.run(ask(serve(**settings).app, "POST", ROUTE, content, **headers))
    assert told["vetoes"]["in_cloud"]["code"] == "private"


def test_device_says_what_the_router_knows(serve: Serve) -> None:
    """Its state, the model, the limits, the cloud's address; no secrets."""
    served = serve()
    status, told = asyncio.run(ask(served.app, "GET", DEVICE))
    assert status == 200
    assert told["state"] == asdict(FINE)
    assert told["availability"]["status"] == "available"
    manifest = served.router.model
    assert told["model"] == {
        "name": manifest.name,
        "revision": manifest.revision,
        "size": 0,  # a scripted model has no files
        "memory": manifest.memory,
        "context_window": manifest.architecture.context_window,
        "vocabulary_size": manifest.architecture.vocabulary_size,
    }
    assert told["limits"] == asdict(served.router.limits)
    assert told["cloud"] == {"address": "scripted cloud"}
    assert (told["mode"], told["default_privacy"]) == ("prefer_on_device", "allow_cloud")
    assert told["update"] == {"staged": None, "previous": None, "probation": None, "detail": ""}


def test_private_server_says_so(serve: Serve) -> None:
    """Whatever the router's default is."""
    _, told = asyncio.run(ask(serve(private=True).app, "GET", DEVICE))
    assert (told["private"], told["default_privacy"]) == (True, "private")
