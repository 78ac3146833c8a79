"""TLS and mutual TLS over real sockets, with real certificates."""

from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

from edgewise_cloud.errors import ServeError
from edgewise_cloud.serving.security.settings import Security
from tests.support.certificates import Authority, Pair, tls_channel
from tests.support.credentials import ADMITTED, REFUSED, bearer, get_model
from tests.support.generate_requests import until
from tests.support.service import serving


def tls(pair: Pair, **more: Path) -> Security:
    return Security(certificate=pair.certificate, key=pair.key, **more)


def test_tls(authority: Authority, pair: Pair, tmp_path: Path) -> None:
    """Clients that trust the authority connect; plain clients and those that trust another do not."""
    with serving("tales", load=False, security=tls(pair)) as running:
        with tls_channel(running.address, authority) as channel:
            assert get_model(channel) == ADMITTED
        with grpc.insecure_channel(running.address) as channel:
            code, text = get_model(channel)
            assert (code, text) != ADMITTED
            assert code is grpc.StatusCode.UNAVAILABLE
        with tls_channel(running.address, Authority(tmp_path)) as channel:
            assert "handshake failed" in get_model(channel)[1]


def test_mutual_tls(authority: Authority, pair: Pair, tmp_path: Path) -> None:
    """Clients must present a certificate of the right authority."""
    strangers = Authority(tmp_path, "strangers")
    with serving("tales", load=False, security=tls(pair, client_ca=authority.file)) as running:
        for client, admitted in (
            (authority.issue("phone-1"), True),
            (strangers.issue("phone-2"), False),
            (None, False),
        ):
            with tls_channel(running.address, authority, client) as channel:
                assert (get_model(channel) == ADMITTED) is admitted


def test_mutual_tls_does_not_replace_tokens(
    authority: Authority, pair: Pair, tokens: Path, token: str
) -> None:
    """Nor the other way round."""
    client = authority.issue("phone-1")
    security = tls(pair, client_ca=authority.file, tokens=tokens)
    with serving("tales", load=False, security=security) as running:
        with tls_channel(running.address, authority, client) as channel:
            assert get_model(channel) == REFUSED
            assert get_model(channel, bearer(token)) == ADMITTED
        with tls_channel(running.address, authority) as channel:
            assert get_model(channel, bearer(token)) != ADMITTED


def test_a_new_certificate_takes_effect(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """For new connections; with a key that does not belong to it, the last pair stays in use."""
    old, new = (Authority(tmp_path, name) for name in ("old", "new"))
    served, other = old.issue("server"), new.issue("other")

    def code(authority: Authority) -> tuple[grpc.StatusCode, str]:
        with tls_channel(running.address, authority) as channel:
            return get_model(channel)

    with serving("tales", load=False, security=tls(served)) as running:
        assert code(old) == ADMITTED
        other.key.replace(served.key)

        def rejected() -> bool:
            assert code(old) == ADMITTED
            return "stays in use" in caplog.text

        until(rejected)
        other.certificate.replace(served.certificate)
        until(lambda: code(new) == ADMITTED)
        assert code(old) != ADMITTED


def encrypt(pair: Pair) -> None:
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key(pair.key.read_bytes(), None)
    pair.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )


def damage(file: Path) -> None:
    file.write_bytes(file.read_bytes().replace(b"MI", b"@@", 1))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda pair, _: pair.certificate.unlink(), "server.crt: No such file"),
        (lambda pair, _: pair.key.unlink(), "server.key: No such file"),
        (lambda _, authority: authority.file.unlink(), "authority.pem: No such file"),
        (lambda pair, _: pair.certificate.write_text("x"), "server.crt holds no certificate"),
        (lambda pair, _: pair.key.write_bytes(b"\0\xff"), "server.key holds no private key"),
        (lambda _, authority: authority.file.write_text(""), "authority.pem holds no certificate"),
        (lambda pair, _: damage(pair.certificate), "server.crt or .* is damaged"),
        (lambda _, authority: damage(authority.file), "authority.pem holds a damaged"),
        (lambda pair, authority: authority.issue("x").key.rename(pair.key), "does not belong to"),
        (lambda pair, _: encrypt(pair), "server.key is encrypted"),
    ],
)
def test_files_that_cannot_be_used_are_named_before_the_port_opens(
    tmp_path: Path, spoil: Callable[[Pair, Authority], None], words: str
) -> None:
    """Each error names its file."""
    authority = Authority(tmp_path)
    pair = authority.issue("server")
    spoil(pair, authority)
    with (
        pytest.raises(ServeError, match=words),
        serving("tales", load=False, security=tls(pair, client_ca=authority.file)),
    ):
        pass
