"""The router's own endpoints on real sources: a text that is changed while it is written."""

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from edgewise import DeviceState, LatencyLog, Router
from edgewise_edge import DeviceModel
from tests.support.device_as_cloud import DeviceAsCloud
from tests.support.http.server import running_server
from tests.support.scripted_cloud import serving_scripted

FINE = DeviceState(battery=0.9, charging=False)
# Slow enough that a text of 400 tokens outlasts what the test does to it.
CONTENT = {"prompt": "Once upon a time", "max_tokens": 400, "temperature": 1.0, "pace": 100}


@pytest.fixture
def client() -> Iterator[httpx2.Client]:
    with serving_scripted(DeviceAsCloud(DeviceModel.load("tales", threads=1))) as address:
        router = Router(
            "tales", cloud=address, device=lambda: FINE, latency=LatencyLog(), threads=1
        )
        with (
            router,
            running_server(router) as serving,
            httpx2.Client(base_url=serving.address) as client,
        ):
            yield client


def events(response: httpx2.Response) -> Iterator[tuple[str, dict[str, Any]]]:
    """The name and the data of each."""
    name = ""
    for line in response.iter_lines():
        field, _, value = line.partition(": ")
        if field == "event":
            name = value
        elif field == "data":
            yield name, json.loads(value)


def test_text_moves_to_the_cloud_and_back_as_the_device_is_changed(client: httpx2.Client) -> None:
    """The battery falls: the cloud goes on. It becomes private: the device does, to a stop."""
    changes = {
        "on_device": {"device": {"battery": 0.05}},
        "in_cloud": {"privacy": "private"},
    }
    writers, moves, id_ = list[str](), list[tuple[str, str]](), ""
    with client.stream("POST", "/v1/edgewise/generate", json=CONTENT) as response:
        for name, told in events(response):
            if name == "started":
                id_ = told["id"]
            elif name == "handoff":
                moves.append((told["to"], told["why"]["code"]))
            elif name == "text" and told["source"] != (writers or [""])[-1]:
                writers.append(told["source"])
                one = f"/v1/edgewise/generations/{id_}"
                if change := changes.pop(told["source"], None):
                    assert client.patch(one, json=change).status_code == 204
                else:
                    assert client.delete(one).status_code == 204
            elif name == "end":
                assert told["finish_reason"] == "cancelled"
                assert [part["source"] for part in told["segments"]] == writers
    assert writers == ["on_device", "in_cloud", "on_device"]
    assert moves == [("in_cloud", "battery"), ("on_device", "private")]
    assert client.delete(f"/v1/edgewise/generations/{id_}").status_code == 404
