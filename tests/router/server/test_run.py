"""Where the server listens: ports, unix sockets, TLS; and what a connection may take."""

import json
import socket
import ssl
import stat
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from starlette.responses import Response
from starlette.routing import Route

from edgewise import ConfigurationError, Router
from edgewise.server.run import connections, sockets
from edgewise.server.run import server as server_module
from edgewise.server.settings import ServerSettings
from edgewise.testing import ScriptedDevice, hangs_after
from tests.support.certificates import Authority
from tests.support.http.server import running_app, running_server
from tests.support.http.texts import text_app


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    return tmp_path / "edgewise.sock"


def over_unix(path: Path, host: str = "localhost") -> httpx2.Response:
    """The health, asked over a unix socket."""
    with httpx2.Client(transport=httpx2.HTTPTransport(uds=str(path))) as client:
        return client.get(f"http://{host}/health")


def test_a_port_that_is_in_use_is_named(router: Router) -> None:
    """Before anything is loaded, with what to do."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with (
            pytest.raises(ConfigurationError, match=f"port is {port}, which another program uses"),
            running_server(router, ServerSettings(port=port)),
        ):
            pass


@pytest.mark.parametrize("host", ["no such host", "\ud800", "192.0.2.1"])
def test_an_address_that_is_not_here_is_named(router: Router, host: str, tmp_path: Path) -> None:
    """One without a name, and one of another machine."""
    pair = Authority(tmp_path).issue("localhost")
    settings = ServerSettings(
        host=host, port=0, token="t", certificate=pair.certificate, key=pair.key
    )
    with pytest.raises(ConfigurationError, match="host is "), running_server(router, settings):
        pass


def test_a_unix_socket_is_this_users_and_gone_at_the_end(router: Router, path: Path) -> None:
    """Mode 0600. The Host is checked there, too."""
    with running_server(router, ServerSettings(unix_socket=path)) as server:
        assert server.address == str(path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert over_unix(path).status_code in {200, 503}
        assert over_unix(path, "evil.example").status_code == 403
    assert not path.exists()


def test_a_dead_servers_socket_is_replaced_and_nothing_else(router: Router, path: Path) -> None:
    """A file that is no socket, or of a server that runs, stays as it is."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with running_server(router, ServerSettings(unix_socket=path)):
        with (
            pytest.raises(ConfigurationError, match="which another program uses"),
            running_server(router, ServerSettings(unix_socket=path)),
        ):
            pass
        assert over_unix(path).status_code in {200, 503}
    path.write_text("precious")
    with (
        pytest.raises(ConfigurationError, match="is there and not a socket"),
        running_server(router, ServerSettings(unix_socket=path)),
    ):
        pass
    assert path.read_text() == "precious"


@pytest.mark.parametrize("name", ["missing/edgewise.sock", "x" * 200])
def test_a_unix_socket_that_cannot_be_made_is_named(
    router: Router, tmp_path: Path, name: str
) -> None:
    """A folder that is missing, a path that is too long."""
    with (
        pytest.raises(ConfigurationError, match="unix_socket is '"),
        running_server(router, ServerSettings(unix_socket=tmp_path / name)),
    ):
        pass


def test_tls_and_a_token_open_the_server_to_other_machines(router: Router, tmp_path: Path) -> None:
    """On all addresses. Without TLS there is no answer."""
    authority = Authority(tmp_path)
    pair = authority.issue("localhost")
    settings = ServerSettings(
        host="0.0.0.0", port=0, token="secret", certificate=pair.certificate, key=pair.key
    )
    trusting = ssl.create_default_context(cafile=str(authority.file))
    with running_server(router, settings) as server, httpx2.Client(verify=trusting) as client:
        assert server.address.startswith("https://localhost:")
        assert client.get(f"{server.address}/v1/models").status_code == 401
        headers = {"authorization": "Bearer secret"}
        assert client.get(f"{server.address}/v1/models", headers=headers).status_code == 200
        with pytest.raises(httpx2.HTTPError):
            client.get(f"http{server.address.removeprefix('https')}/health")


def test_files_that_are_no_certificate_or_key_are_named(router: Router, tmp_path: Path) -> None:
    """Missing, of something else, or not belonging together."""
    authority = Authority(tmp_path)
    one, other = authority.issue("one"), authority.issue("other")
    text = tmp_path / "text.pem"
    text.write_text("no certificate")
    for certificate, key, name in [
        (tmp_path / "missing.pem", one.key, "tls_certificate is"),
        (one.certificate, tmp_path / "missing.pem", "tls_key is"),
        (text, one.key, "tls_certificate is"),
        (one.certificate, other.key, "not its key"),
    ]:
        settings = ServerSettings(port=0, certificate=certificate, key=key)
        with pytest.raises(ConfigurationError, match=name), running_server(router, settings):
            pass


def test_headers_of_a_proxy_are_not_trusted_and_the_server_names_nothing(router: Router) -> None:
    """Neither who asks, nor which program answers."""
    headers = {"x-forwarded-for": "1.2.3.4", "x-forwarded-proto": "https", "host": "evil.example"}
    with running_server(router) as server:
        reply = httpx2.get(f"{server.address}/health", headers=headers)
        assert reply.status_code == 403
        assert "server" not in reply.headers


def test_a_head_that_does_not_arrive_ends_the_connection(
    router: Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one and a later one on the same connection. uvicorn would wait for ever."""
    monkeypatch.setattr(connections, "PATIENCE", 0.05)
    half = b"GET /v1/models HTTP/1.1\r\nHost: local"
    with running_server(router) as server:
        port = int(server.address.rpartition(":")[2])
        for start in (b"", half, half + b"host\r\n\r\n"):
            with socket.create_connection(("127.0.0.1", port), 20) as connection:
                connection.sendall(start)
                if start.endswith(b"\r\n\r\n"):
                    assert connection.recv(4096).startswith(b"HTTP/1.1 200")
                    connection.sendall(half)
                while connection.recv(4096):
                    pass


def test_a_text_takes_longer_than_a_head_may(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is for what comes before the request."""
    monkeypatch.setattr(connections, "PATIENCE", 0.05)
    hangs = threading.Event()
    device = ScriptedDevice("x", hangs_after(0, hangs))
    with Router(device) as router, running_app(text_app(router)) as server:
        with pytest.raises(httpx2.ReadTimeout):
            httpx2.post(f"{server.address}/text", json={"prompt": "x"}, timeout=0.3)
        device.wait_until_idle()


def test_requests_that_are_no_http_get_an_answer_and_no_traceback(
    router: Router, capfd: pytest.CaptureFixture[str]
) -> None:
    """Two lengths, no Host, a head that is too large: h11 refuses them."""
    with running_server(router) as server:
        port = int(server.address.rpartition(":")[2])
        for head in (
            b"nonsense\r\n\r\n",
            b"GET / HTTP/1.1\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: localhost\r\nX: %b" % (b"x" * 70000),
        ):
            with socket.create_connection(("127.0.0.1", port), 30) as connection:
                connection.sendall(head)
                assert connection.recv(4096).startswith(b"HTTP/1.1 400")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("path", [b"/v1/completions", b"/nowhere"])
@pytest.mark.parametrize("early", [True, False])
def test_a_body_that_is_no_http_gets_one_answer_and_no_traceback(
    router: Router,
    path: bytes,
    early: bool,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """With its head, or after that was answered."""
    head = (
        b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n" % path
    )
    with running_server(router) as server:
        port = int(server.address.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), 30) as connection:
            connection.sendall(head + (b"zz\r\n" if early else b""))
            answer = b"" if early or path != b"/nowhere" else connection.recv(4096)
            if not early:
                connection.sendall(b"zz\r\n")
            while received := connection.recv(4096):
                answer += received
    assert answer.count(b"HTTP/1.1 4") == 1
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


def test_texts_that_run_when_the_server_stops_come_to_their_end() -> None:
    """And new connections are refused meanwhile."""
    hangs, goes_on = threading.Event(), threading.Event()

    def waits(tokens, attempt):
        yield next(tokens)
        hangs.set()
        goes_on.wait(30)
        yield from tokens

    with (
        Router(ScriptedDevice("the answer", waits)) as router,
        running_app(text_app(router)) as server,
        httpx2.stream("POST", f"{server.address}/stream", json={"prompt": "x"}) as reply,
    ):
        assert hangs.wait(30)
        server.stop()
        while True:
            try:
                httpx2.get(f"{server.address}/health")
            except httpx2.ConnectError:
                break
        goes_on.set()
        assert reply.read().endswith(b"data: [DONE]\n\n")


def test_a_stream_that_outlives_the_stop_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """By its last event, instead of a connection that breaks."""
    monkeypatch.setattr(server_module, "_GRACE", 0.01)
    device = ScriptedDevice("the answer", hangs_after(3))
    with (
        Router(device) as router,
        running_app(text_app(router)) as server,
        httpx2.stream("POST", f"{server.address}/stream", json={"prompt": "x"}) as reply,
    ):
        lines = reply.iter_lines()
        assert next(lines).startswith("data: ")
        server.stop()
        *_, last, _ = lines
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == "stopping"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems cannot be told to")
def test_a_client_that_reads_nothing_is_disconnected(
    router: Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else its reply would stay in memory for as long as it likes."""
    monkeypatch.setattr(sockets, "STALLED", 0.1)
    lost, ending = threading.Event(), connections.BoundedConnection.connection_lost

    def connection_lost(self: connections.BoundedConnection, error: Exception | None) -> None:
        ending(self, error)
        lost.set()

    monkeypatch.setattr(connections.BoundedConnection, "connection_lost", connection_lost)
    app = text_app(router)
    app.router.routes.append(Route("/large", lambda _: Response(b"x" * 2**25)))
    with running_app(app) as server:
        port = int(server.address.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert lost.wait(30)
