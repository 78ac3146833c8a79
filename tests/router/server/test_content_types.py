"""Bodies that a web page can send without asking are refused."""

import pytest
from starlette.testclient import TestClient


@pytest.mark.parametrize(
    "kind",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "text/plain; a=application/json",
        "application/jsonp",
        "application/json, text/plain",
        "application/json; charset=utf-16",
        "application/json; charset=utf-8; charset=utf-16",
        "application/json; charset*=utf-16''utf-8",
        "",
    ],
)
@pytest.mark.parametrize("method", ["POST", "PATCH", "PUT"])
def test_a_form_of_another_site_is_refused(asking: TestClient, kind: str, method: str) -> None:
    """Its fields can look like JSON, but its content type cannot. Nothing is written for it."""
    body = '{"prompt": "x", "ignored": "="}'
    reply = asking.request(method, "/text", content=body, headers={"content-type": kind})
    assert reply.status_code == 415
    assert not asking.app.state.service.router.device_source.requests


def test_no_content_type_is_none(asking: TestClient) -> None:
    """Nothing is guessed from the body."""
    assert asking.post("/text", content=b'{"prompt": "x"}').status_code == 415


def test_json_in_utf_8_is_read(asking: TestClient) -> None:
    """However it is spelled."""
    kinds = (
        "application/json",
        "Application/JSON; charset=UTF-8",
        'application/json;charset="utf-8"',
    )
    for kind in kinds:
        reply = asking.post("/text", content=b'{"prompt": "x"}', headers={"content-type": kind})
        assert reply.status_code == 200


def test_a_compressed_body_is_refused(asking: TestClient) -> None:
    """Its size could not be bounded."""
    reply = asking.post("/text", json={"prompt": "x"}, headers={"content-encoding": "gzip"})
    assert reply.status_code == 415
