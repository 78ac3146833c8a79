"""The app on a scripted device, as a client sees it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from httpx2 import Response
from starlette.testclient import TestClient

from edgewise import Router
from edgewise.generation.source import DeviceTokenSource
from edgewise.server.app import create_app
from edgewise.server.settings import ServerSettings
from edgewise.testing import ScriptedDevice

ANSWER = "Once upon a time"
SETTINGS = ServerSettings()
COMPLETIONS, CHAT, RESPONSES = "/v1/completions", "/v1/chat/completions", "/v1/responses"


@contextmanager
def served(
    model: DeviceTokenSource | str | None = None,
    settings: ServerSettings = SETTINGS,
    **options: Any,
) -> Iterator[TestClient]:
    """A client of a server whose device answers ANSWER, or of another model."""
    with Router(model or ScriptedDevice(ANSWER), **options) as router:
        app = create_app(router, settings)
        with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
            yield client


def post(client: TestClient, path: str, **body: Any) -> dict[str, Any]:
    """The reply, which must be one."""
    response = client.post(path, json=body)
    assert response.status_code == 200, response.text
    return response.json()


def refused(client: TestClient, path: str, **body: Any) -> dict[str, Any]:
    """The error of a request that must be invalid."""
    response = client.post(path, json=body)
    assert response.status_code == 400, response.text
    return response.json()["error"]


def chunks(response: Response) -> list[dict[str, Any]]:
    """The events of a stream that ends as it must."""
    assert response.status_code == 200, response.text
    *frames, done, end = response.text.split("\n\n")
    assert (done, end) == ("data: [DONE]", "")
    return [json.loads(frame.removeprefix("data: ")) for frame in frames]


def streamed(client: TestClient, path: str, **body: Any) -> list[dict[str, Any]]:
    """The events of a stream."""
    return chunks(client.post(path, json={**body, "stream": True}))
