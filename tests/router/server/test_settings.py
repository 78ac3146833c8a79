"""Settings that are refused before anything listens."""

from pathlib import Path

import pytest

from edgewise import ConfigurationError
from edgewise.server.security.settings import check_settings
from edgewise.server.settings import ServerSettings

FILE = Path("file.pem")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.10", "device.example"])
@pytest.mark.parametrize(
    "given", [{}, {"token": "t"}, {"certificate": FILE, "key": FILE}], ids=["none", "token", "tls"]
)
def test_other_machines_need_tls_and_a_token(host: str, given: dict) -> None:
    """One of them is not enough."""
    with pytest.raises(ConfigurationError, match="which other machines can reach; give"):
        check_settings(ServerSettings(host=host, **given))
    check_settings(ServerSettings(host=host, token="t", certificate=FILE, key=FILE))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost", "LOCALHOST"])
def test_this_machine_needs_neither(host: str) -> None:
    """Loopback addresses cannot be reached from elsewhere; nor can a unix socket."""
    check_settings(ServerSettings(host=host))
    check_settings(ServerSettings(host="0.0.0.0", unix_socket=Path("socket")))


@pytest.mark.parametrize(
    "origin",
    [
        "http://localhost:3000",
        "HTTPS://a.example",
        "http://[::1]:8000",
        "chrome-extension://abc",
        "https://a.example:80",
        "http://my_host",
    ],
)
def test_an_origin_as_a_browser_writes_it_is_listed(origin: str) -> None:
    """Of any scheme."""
    check_settings(ServerSettings(allowed_origins=(origin,)))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"port": 65536}, "port is 65536"),
        ({"port": "80"}, "port is '80'"),
        ({"max_waiting": -1}, "max_waiting is -1"),
        ({"certificate": FILE}, "give tls_key too"),
        ({"key": FILE}, "give tls_certificate too"),
        ({"token": ""}, "the token of the server is empty"),
        ({"token": "two words"}, "the token of the server is empty, longer than"),
        ({"token": "x" * 4097}, "longer than 4,096"),
        ({"allowed_origins": ("*",)}, r"allow_origin is '\*'"),
        ({"allowed_origins": ("null",)}, "allow_origin is 'null'"),
        ({"allowed_origins": ("http://a.example/path",)}, "without a path"),
        ({"allowed_origins": ("a.example",)}, "allow_origin is 'a.example'"),
        ({"allowed_origins": ("https://*.a.example",)}, "allow_origin is"),
        ({"allowed_origins": ("http://a.example:80",)}, "without the usual port"),
        ({"allowed_origins": ("http://a.example:port",)}, "allow_origin is"),
        ({"allowed_origins": ("http://é.example",)}, "allow_origin is"),
    ],
)
def test_an_invalid_value_is_named(given: dict, message: str) -> None:
    """With the option's name; of a token, never the value."""
    with pytest.raises(ConfigurationError, match=message) as error:
        check_settings(ServerSettings(**given))
    assert "two words" not in str(error.value)
