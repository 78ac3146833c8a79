"""How errors of the router are told by HTTP."""

import logging

import pytest
from starlette.testclient import TestClient

from edgewise import (
    CloudBusyError,
    CloudUnavailableError,
    ConfigurationError,
    ContextOverflowError,
    ModelNotFoundError,
    NoSourceError,
    RequestError,
    Router,
    RouterClosedError,
    RuntimeFailedError,
    Source,
    Veto,
    VetoCode,
)
from edgewise.policy.types import NoSource
from edgewise.server.errors import HttpError, from_error
from edgewise.testing import ScriptedDevice, fails_after
from tests.support.http.texts import client

CANARY = "my-secret-diary"


def refused(device: VetoCode, cloud: VetoCode, **failures: Exception) -> NoSourceError:
    """A refusal with these vetoes."""
    vetoes = {Source.ON_DEVICE: Veto(device, "here"), Source.IN_CLOUD: Veto(cloud, "there")}
    return NoSourceError(NoSource(vetoes), {Source(name): e for name, e in failures.items()})


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (RequestError("temperature is -1; no"), 400, None),
        (ContextOverflowError(2000, 1024), 400, "context_length_exceeded"),
        (refused(VetoCode.CONTEXT_WINDOW, VetoCode.NO_ADDRESS), 400, "context_length_exceeded"),
        (refused(VetoCode.MODE, VetoCode.PRIVATE), 400, "no_source"),
        (refused(VetoCode.BATTERY, VetoCode.NO_ADDRESS), 503, "unavailable"),
        (refused(VetoCode.QUEUE_FULL, VetoCode.NO_ADDRESS), 429, "busy"),
        (refused(VetoCode.FAILED, VetoCode.BUSY), 429, "busy"),
        (CloudBusyError("full", 7.0), 429, "busy"),
        (CloudUnavailableError("gone"), 503, "unavailable"),
        (ModelNotFoundError("not here"), 503, "unavailable"),
        (RuntimeFailedError("failed"), 503, "unavailable"),
        (RouterClosedError(), 503, "unavailable"),
        (ConfigurationError("classify returned None"), 500, None),
        (ZeroDivisionError(CANARY), 500, None),
        (HttpError(418, "a teapot"), 418, None),
    ],
)
def test_each_error_has_a_status(error: Exception, status: int, code: str | None) -> None:
    """400 for what the request can change, 429 and 503 for what time may change."""
    told = from_error(error)
    assert (told.status, told.code) == (status, code)
    assert CANARY not in told.message
    assert (told.retry_after is not None) is (status == 429)


def test_a_busy_cloud_says_how_long_to_wait() -> None:
    """Its own time is passed on, and never less than a second."""
    busy = CloudBusyError("full", 7.0)
    assert from_error(busy).retry_after == 7.0
    refusal = refused(VetoCode.FAILED, VetoCode.BUSY, in_cloud=busy)
    assert from_error(refusal).retry_after == 7.0
    assert from_error(CloudBusyError("full")).retry_after == 1.0


def test_a_field_is_called_as_its_api_calls_it() -> None:
    """In the message, too."""
    told = from_error(RequestError("max_tokens is 0; no"), {"max_tokens": "max_output_tokens"})
    assert (told.param, told.message) == ("max_output_tokens", "max_output_tokens is 0; no")
    assert from_error(RequestError("the prompt is empty"), {"prompt": "input"}).param == "input"


@pytest.mark.parametrize(
    ("path", "method"), [("/nowhere", "GET"), ("/text", "GET"), ("/v1/x", "POST")]
)
def test_a_path_that_is_not_there_gets_the_same_kind_of_error(
    asking: TestClient, path: str, method: str
) -> None:
    """404 and 405 are JSON as all others."""
    reply = asking.request(method, path, json={})
    assert reply.status_code in {404, 405}
    assert set(reply.json()["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize("path", ["/text", "/stream"])
@pytest.mark.parametrize("after", [0, 3])
def test_a_bug_is_told_and_logged_without_content(
    path: str, after: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Its message may quote the prompt: only its type is told. In mid-stream it is the last event."""
    caplog.set_level(logging.DEBUG)
    device = ScriptedDevice("the answer", fails_after(after, ZeroDivisionError(CANARY)))
    with Router(device) as router, client(router) as asking:
        reply = asking.post(path, json={"prompt": CANARY})
    assert reply.status_code == (200 if path == "/stream" and after else 500)
    assert "internal error (ZeroDivisionError)" in reply.text
    assert CANARY not in reply.text
    assert "ZeroDivisionError" in caplog.text
    assert CANARY not in caplog.text
