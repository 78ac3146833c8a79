"""Which bind addresses need TLS and tokens."""

from pathlib import Path

import pytest

from edgewise_cloud.errors import ServeError
from edgewise_cloud.serving.security.settings import Security


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_needs_nothing(host: str) -> None:
    """Neither TLS nor tokens."""
    Security().check(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org", "", "127.1"])
@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ((), "TLS .* and tokens"),
        (("certificate", "key"), "without tokens"),
        (("certificate", "key", "client_ca"), "without tokens"),
        (("tokens",), "without TLS"),
    ],
)
def test_other_addresses_need_tls_and_tokens(
    host: str, given: tuple[str, ...], missing: str
) -> None:
    """One of them is not enough; --insecure-i-know allows neither."""
    files = dict.fromkeys(given, Path("file"))
    with pytest.raises(ServeError, match=missing):
        Security(**files).check(host)
    Security(**files, insecure=True).check(host)


def test_tls_and_tokens_allow_other_addresses() -> None:
    """Without --insecure-i-know."""
    Security(certificate=Path("c"), key=Path("k"), tokens=Path("t")).check("0.0.0.0")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("certificate",), "both"),
        (("key",), "both"),
        (("client_ca",), "as well"),
    ],
)
def test_half_of_tls_is_refused(given: tuple[str, ...], words: str) -> None:
    """Also on loopback, and also with --insecure-i-know."""
    with pytest.raises(ServeError, match=words):
        Security(**dict.fromkeys(given, Path("file")), insecure=True).check("127.0.0.1")
