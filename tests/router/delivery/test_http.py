"""What is asked over HTTP, and where redirects are followed to."""

import ipaddress
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgewise import ConfigurationError
from edgewise.delivery.fetch import FetchError, FetchFailure, open_fetcher, redirects
from edgewise.delivery.settings import DownloadSettings
from tests.router.delivery.conftest import CONTENT, PATIENT
from tests.support.certificates import Authority
from tests.support.file_server import Fault, FileServer

PRIVATE = "127.0.0.2"  # what tests below take for a private network; 127.0.0.1 is public there


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of this machine."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def server(folder: Path) -> Iterator[FileServer]:
    """The channel's."""
    with FileServer(folder) as server:
        yield server


@pytest.fixture
def other(folder: Path) -> Iterator[FileServer]:
    """Where it redirects to."""
    with FileServer(folder) as server:
        yield server


@pytest.fixture
def private(folder: Path) -> Iterator[FileServer]:
    """A server of a private network."""
    with FileServer(folder, host=PRIVATE) as server:
        yield server


@pytest.fixture
def first_is_public(monkeypatch: pytest.MonkeyPatch) -> None:
    """127.0.0.1 counts as a public address."""
    is_public = redirects.is_public
    for module in ("redirects", "connections"):
        monkeypatch.setattr(
            f"edgewise.delivery.fetch.{module}.is_public",
            lambda address: address == "127.0.0.1" or is_public(address),
        )


def read(address: str, settings: DownloadSettings = PATIENT, path: str = "model.tflite") -> bytes:
    """The whole file."""
    fetcher = open_fetcher(address, settings)
    try:
        with fetcher.open(path) as reply:
            return b"".join(reply.chunks)
    finally:
        fetcher.close()


@pytest.fixture
def token(tmp_path: Path) -> DownloadSettings:
    """Settings with a token."""
    file = tmp_path / "token"
    file.write_text("secret-token\n", encoding="ascii")
    return DownloadSettings(token_file=file)


def test_redirects_are_followed_five_times(server: FileServer, other: FileServer) -> None:
    """Not more often."""
    server.redirect(f"{server.address}/model.tflite", times=4)
    server.redirect(f"{other.address}/model.tflite")
    assert read(server.address) == CONTENT
    server.redirect(f"{server.address}/model.tflite", times=6)
    with pytest.raises(FetchError, match="redirects more than 5 times") as failed:
        read(server.address)
    assert failed.value.kind is FetchFailure.REFUSED


def test_a_token_goes_to_its_own_server_only(
    server: FileServer, other: FileServer, token: DownloadSettings
) -> None:
    """Another port is another server."""
    server.redirect(f"{other.address}/model.tflite")
    assert read(server.address, token) == CONTENT
    assert server.requests[0].headers["authorization"] == "Bearer secret-token"
    assert "authorization" not in other.requests[0].headers


@pytest.mark.parametrize(
    "location", ["file:///etc/passwd", "ftp://host/x", "http://a:b@host/x", "", "http://host:x/"]
)
def test_redirects_lead_to_http_only(server: FileServer, location: str) -> None:
    """Without a password in the address."""
    server.redirect(location)
    with pytest.raises(FetchError, match="redirects to") as failed:
        read(server.address)
    assert failed.value.kind is FetchFailure.REFUSED
    assert "a:b" not in str(failed.value)


def test_no_redirect_leaves_tls(folder: Path, other: FileServer, tmp_path: Path) -> None:
    """Nobody on the way could have sent it, but all could read and change what follows."""
    authority = Authority(tmp_path)
    pair = authority.issue("server")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pair.certificate, pair.key)
    settings = DownloadSettings(root_certificates=authority.file)
    with FileServer(folder, tls=context) as server:
        address = server.address
        assert read(address, settings) == CONTENT
        server.redirect(f"{other.address}/model.tflite")
        with pytest.raises(FetchError, match="without TLS"):
            read(address, settings)
        with pytest.raises(FetchError, match=r"certificate.*root_certificates"):
            read(address)
    assert not other.requests


@pytest.mark.usefixtures("first_is_public")
def test_no_redirect_leads_into_a_private_network(server: FileServer, private: FileServer) -> None:
    """Not even one request reaches it, unless it is allowed."""
    server.redirect(f"{private.address}/model.tflite", times=2)
    with pytest.raises(FetchError, match=r"127\.0\.0\.2.*allow_private_redirects"):
        read(server.address)
    assert not private.requests
    assert read(server.address, DownloadSettings(allow_private_redirects=True)) == CONTENT


@pytest.mark.usefixtures("first_is_public")
def test_the_connected_address_counts_not_the_resolved_one(
    server: FileServer, private: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that resolves to another address a moment later gains nothing."""
    monkeypatch.setattr("edgewise.delivery.fetch.connections.addresses", lambda host: ["127.0.0.1"])
    server.redirect(f"{private.address}/model.tflite")
    with pytest.raises(FetchError, match="private network"):
        read(server.address)
    assert not private.requests


def test_a_private_channel_may_redirect_to_private_addresses(
    server: FileServer, private: FileServer
) -> None:
    """It is in the same network."""
    server.redirect(f"{private.address}/model.tflite")
    assert read(server.address) == CONTENT


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "192.168.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "::1",
     "fe80::1%eth0", "fd00::1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "224.0.0.1"],
)  # fmt: skip
def test_private_addresses_are_known(address: str) -> None:
    """Of this machine, of private, shared and link-local networks, and IPv4 within IPv6."""
    assert not redirects.is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111"])
def test_public_addresses_are_known(address: str) -> None:
    """Those of the Internet."""
    assert redirects.is_public(address)
    assert ipaddress.ip_address(address).is_global


def test_compressed_answers_are_refused(server: FileServer) -> None:
    """A small answer could become an endless one, and ranges of it mean nothing."""
    server.misbehave(Fault.GZIP)
    with pytest.raises(FetchError, match=r"gzip.*compression off") as failed:
        read(server.address)
    assert failed.value.kind is FetchFailure.REFUSED


def test_queries_of_redirects_are_not_shown(server: FileServer, other: FileServer) -> None:
    """Storage services put signatures there."""
    server.redirect(f"{other.address}/missing?signature=secret")
    with pytest.raises(FetchError) as failed:
        read(server.address)
    assert failed.value.kind is FetchFailure.MISSING
    assert "secret" not in str(failed.value)


@pytest.mark.parametrize("path", ["../secret", "/etc/passwd", "a//b", "", ".", "a\\b", "a/../b"])
def test_paths_stay_in_the_folder(server: FileServer, folder: Path, path: str) -> None:
    """Over HTTP and on disk."""
    for address in (server.address, str(folder)):
        with pytest.raises(FetchError, match="no path of a file"):
            read(address, path=path)
    assert not server.requests


def test_a_proxy_of_the_environment_is_used(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """But not for hosts in no_proxy."""
    (folder / "channel").mkdir()
    with FileServer(folder) as proxy:
        monkeypatch.setenv("http_proxy", proxy.address)
        with pytest.raises(FetchError, match="404"):  # this proxy has no such file
            read("http://models.invalid/channel")
        assert proxy.requests[0].path == "http://models.invalid/channel/model.tflite"
        monkeypatch.setenv("no_proxy", "models.invalid")
        with pytest.raises(FetchError, match="does not resolve") as failed:
            read("http://models.invalid/channel")
    assert failed.value.kind is FetchFailure.TEMPORARY


def test_an_unreachable_server_is_a_temporary_failure(folder: Path) -> None:
    """It says which, and why."""
    with FileServer(folder) as server:
        address = server.address
    with pytest.raises(FetchError, match=rf"{address}.*refused") as failed:
        read(address)
    assert failed.value.kind is FetchFailure.TEMPORARY


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("", "must be a folder, file://"),
        ("ftp://host/x", "must be a folder, file://"),
        ("http://", "HOST"),
        ("http://host:port/", "no address"),
        ("http://user:password@host/", "token_file"),
        ("https://host/?query", "HOST"),
        ("file://host/folder", "names no host"),
        ("hf://only", "hf://ORGANISATION/REPOSITORY"),
        ("hf://a/../../b", "hf://ORGANISATION/REPOSITORY"),
    ],
)
def test_invalid_addresses_are_found_early(address: str, message: str) -> None:
    """With what it must be, and without a password."""
    with pytest.raises(ConfigurationError, match=message) as failed:
        open_fetcher(address)
    assert "password@" not in str(failed.value)


def test_a_token_is_not_sent_in_the_clear(token: DownloadSettings, tmp_path: Path) -> None:
    """To other machines it needs TLS; and it must be one token."""
    with pytest.raises(ConfigurationError, match="https"):
        open_fetcher("http://models.invalid/", token)
    open_fetcher("https://models.invalid/", token).close()
    (tmp_path / "token").write_text("two words", encoding="ascii")
    with pytest.raises(ConfigurationError, match="one token") as failed:
        open_fetcher("https://models.invalid/", token)
    assert "two words" not in str(failed.value)


@pytest.mark.parametrize(
    "options",
    [{"tries": 0}, {"stall_timeout": 0}, {"bandwidth": 1}, {"bandwidth": "fast"}, {"token_file": ""},
     {"allow_private_redirects": 1}, {"root_certificates": 3}, {"treis": 3}],
)  # fmt: skip
def test_invalid_settings_are_configuration_errors(options: dict[str, object]) -> None:
    """They name the option."""
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        DownloadSettings(**options)
