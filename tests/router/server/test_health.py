"""/health and /metrics."""

import sys
import threading

import pytest
from starlette.testclient import TestClient

from edgewise import Availability, ModelError, Router
from edgewise.testing import ScriptedCloud, ScriptedDevice
from tests.support.http.texts import client


class SlowDevice(ScriptedDevice):
    """Loads its model once `loads` is set."""

    def __init__(self, failure: Exception | None = None) -> None:
        super().__init__("the answer")
        self.loads, self._failure = threading.Event(), failure

    def warm_up(self) -> None:
        self.loads.wait(30)
        if self._failure:
            raise self._failure
        super().warm_up()


def until(asking: TestClient, status: int) -> dict:
    """Ask until the health has that status."""
    for _ in range(1000):
        reply = asking.get("/health")
        if reply.status_code == status:
            return reply.json()
    raise AssertionError(reply.text)


def test_health_is_503_while_the_model_is_loaded() -> None:
    """With a time to ask again; it is loaded without any request."""
    device = SlowDevice()
    with Router(device) as router, client(router) as asking:
        reply = asking.get("/health")
        assert (reply.status_code, reply.headers["retry-after"]) == (503, "1")
        assert reply.json()["error"]["message"] == "the model is being loaded"
        device.loads.set()
        assert until(asking, 200) == {"status": "ok"}


def test_a_request_waits_for_the_model() -> None:
    """It is not refused while the model is loaded."""
    device = SlowDevice()
    with Router(device) as router, client(router) as asking:
        threading.Timer(0.05, device.loads.set).start()
        assert asking.post("/text", json={"prompt": "x"}).json()["text"] == "the answer"


def test_health_says_that_the_model_could_not_be_loaded() -> None:
    """Until a later request loads it; with a cloud, texts are answered there."""
    device = SlowDevice(ModelError("a file is missing"))
    device.loads.set()
    with Router(device) as router, client(router) as asking:
        message = until(asking, 503)["error"]["message"]
        assert "could not be loaded" in message or "being loaded" in message
        device._failure = None
        router.warm_up()
        assert until(asking, 200)
    with Router(device, cloud=ScriptedCloud("there")) as router, client(router) as asking:
        assert until(asking, 200)


def test_health_is_503_while_the_model_is_not_on_the_device() -> None:
    """Or on its way here."""
    device = ScriptedDevice(availability=Availability.DOWNLOADING)
    with Router(device) as router, client(router) as asking:
        reply = asking.get("/health")
    assert reply.status_code == 503
    assert "downloading" in reply.json()["error"]["message"]


def test_health_is_200_where_the_cloud_answers_for_a_broken_model() -> None:
    """As a text is."""
    device = ScriptedDevice(availability=Availability.UNAVAILABLE)
    with Router(device, cloud=ScriptedCloud("there")) as router, client(router) as asking:
        assert asking.get("/health").status_code == 200
        assert asking.post("/text", json={"prompt": "x"}).json()["text"] == "there"


def test_a_router_that_prefers_the_cloud_loads_nothing() -> None:
    """Its memory is for other things until a text needs the model."""
    with (
        Router(ScriptedDevice(), cloud=ScriptedCloud("there"), mode="prefer_in_cloud") as router,
        client(router) as asking,
    ):
        assert until(asking, 200)
        assert not router.availability().loaded


def test_metrics_are_those_of_prometheus(asking: TestClient) -> None:
    """In its text format."""
    reply = asking.get("/metrics")
    assert reply.headers["content-type"].startswith("text/plain; version=")
    assert "# TYPE python_info gauge" in reply.text


def test_without_prometheus_there_are_no_metrics(
    asking: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """404 says what to install."""
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    reply = asking.get("/metrics")
    assert reply.status_code == 404
    assert "pip install prometheus-client" in reply.json()["error"]["message"]
