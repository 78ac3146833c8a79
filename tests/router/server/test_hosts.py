"""Which names the server answers to."""

import pytest
from starlette.testclient import TestClient

from edgewise import Router
from edgewise.server.security.hosts import HostCheck, host_name
from edgewise.server.settings import ServerSettings
from tests.support.http.texts import client

OWN = ["localhost", "LOCALHOST.", "page.localhost", "127.0.0.1", "127.8.9.1", "[::1]"]
FOREIGN = [
    "evil.example",
    "EVIL.example.",
    "localhost.evil.example",
    "notlocalhost",
    "127.0.0.1.evil.example",
    "127.0.0.1@evil.example",
    "192.168.1.10",
    "0.0.0.0",
    "[2001:db8::1]",
    "::1",
    "[::1",
    "2130706433",
    "",
    "localhost:",
    "localhost:80:80",
    "localhost:http",
    "localhost evil.example",
    "localhost, evil.example",
    ".localhost",
    "evil.example/.localhost",
    "evil.example#.localhost",
]


@pytest.mark.parametrize("port", ["", ":8765", ":1"])
@pytest.mark.parametrize("host", OWN)
def test_this_machine_by_any_of_its_names_is_answered(
    asking: TestClient, host: str, port: str
) -> None:
    """At any port, as forwarding changes it."""
    assert asking.get("/health", headers={"host": host + port}).status_code == 200


@pytest.mark.parametrize("host", [*FOREIGN, "evil.example:8765", "[2001:db8::1]:8765"])
def test_a_name_that_was_pointed_here_is_refused(asking: TestClient, host: str) -> None:
    """DNS rebinding: a web page's own name, which now leads to 127.0.0.1. For texts, too."""
    for reply in (
        asking.get("/health", headers={"host": host}),
        asking.post("/text", json={"prompt": "x"}, headers={"host": host}),
    ):
        assert reply.status_code == 403
        assert reply.json()["error"]["code"] == "host_not_allowed"


@pytest.mark.parametrize("header", ["x-forwarded-host", "forwarded", "x-host"])
def test_no_other_header_stands_in_for_the_host(asking: TestClient, header: str) -> None:
    """What a proxy would say is not trusted."""
    headers = {"host": "evil.example", header: "localhost"}
    assert asking.get("/health", headers=headers).status_code == 403


def test_two_hosts_are_refused(asking: TestClient) -> None:
    """Whichever of them another program would read."""
    headers = [("host", "localhost"), ("host", "evil.example")]
    assert asking.get("/health", headers=headers).status_code == 403


def test_an_exposed_server_answers_to_the_name_it_serves_on(router: Router) -> None:
    """And still to this machine's own."""
    exposed = ServerSettings(host="device.example", token="t")  # the check alone, without TLS
    check = HostCheck(lambda *_: None, exposed)
    assert check._allowed("Device.Example:8765")
    assert check._allowed("localhost")
    assert not check._allowed("evil.example")
    everywhere = HostCheck(lambda *_: None, ServerSettings(host="0.0.0.0"))
    assert everywhere._allowed("192.168.1.10:8765")
    assert not everywhere._allowed("evil.example")
    with client(router, host="127.0.0.2") as asking:
        assert asking.get("/health", headers={"host": "192.168.1.10"}).status_code == 403


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("A.b:1", "a.b"),
        ("[::1]:80", "::1"),
        ("[::1]", "::1"),
        ("a:b", ""),
        ("[a]:1", ""),
        ("a.", "a"),
    ],
)
def test_the_name_is_what_stands_before_the_port(host: str, name: str) -> None:
    """In lower case, without brackets and the root's dot."""
    assert host_name(host) == name
