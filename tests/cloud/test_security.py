"""Who may reach the service, over real sockets with real certificates."""

import logging
import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from edgewise_cloud.errors import ServeError
from edgewise_cloud.serving.security.settings import Security
from edgewise_cloud.serving.security.tokens import REFUSAL, append_line, new_token, read_hashes
from edgewise_cloud.serving.types import Outcome
from edgewise_proto import generation_pb2 as pb
from edgewise_proto import generation_pb2_grpc as pb_grpc
from tests.certificates import Authority, Pair
from tests.serving import Running, serving

ADMITTED = (grpc.StatusCode.UNAVAILABLE, "the model is still loading")  # none is loaded here
REFUSED = (grpc.StatusCode.UNAUTHENTICATED, REFUSAL)

Headers = list[tuple[str, str | bytes]]


def bearer(token: str) -> Headers:
    return [("authorization", f"Bearer {token}")]


def ask(channel: grpc.Channel, headers: Headers | None = None) -> tuple[grpc.StatusCode, str]:
    """How GetModel ends."""
    with pytest.raises(grpc.RpcError) as error:
        pb_grpc.GeneratorStub(channel).GetModel(pb.GetModelRequest(), metadata=headers, timeout=20)
    return error.value.code(), error.value.details()


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    return tmp_path / "tokens"


@pytest.fixture
def token(tokens: Path) -> str:
    made, line = new_token("phone-1")
    append_line(tokens, line)
    return made


@pytest.fixture
def guarded(tokens: Path, token: str) -> Iterator[Running]:
    with serving("tales", load=False, security=Security(tokens=tokens)) as running:
        yield running


@pytest.fixture
def channel(guarded: Running) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(guarded.address) as channel:
        yield channel


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def pair(authority: Authority) -> Pair:
    return authority.issue("server")


def tls(pair: Pair, **more: Path) -> Security:
    return Security(certificate=pair.certificate, key=pair.key, **more)


def tls_channel(running: Running, authority: Authority, client: Pair | None = None) -> grpc.Channel:
    credentials = grpc.ssl_channel_credentials(
        authority.file.read_bytes(),
        client and client.key.read_bytes(),
        client and client.certificate.read_bytes(),
    )
    return grpc.secure_channel(running.address, credentials)


# Tokens


def test_a_known_token_is_admitted(channel: grpc.Channel, token: str) -> None:
    """However its scheme is spelt."""
    assert ask(channel, bearer(token)) == ADMITTED
    assert ask(channel, [("authorization", f"bearer {token}")]) == ADMITTED


@pytest.mark.parametrize(
    "headers",
    [
        lambda _: [],
        lambda _: bearer("wrong"),
        lambda _: bearer(""),
        lambda token: bearer(token[:-1]),
        lambda token: bearer(f"{token} "),
        lambda token: [("authorization", token)],
        lambda token: [("authorization", f"Basic {token}")],
        lambda token: bearer(token) + bearer(token),
        lambda token: bearer("wrong") + bearer(token),
        lambda token: [("x-authorization", f"Bearer {token}")],
    ],
    ids=["none", "wrong", "empty", "short", "longer", "bare", "basic", "twice", "two", "other"],
)
def test_anything_else_is_refused(
    channel: grpc.Channel, token: str, headers: Callable[[str], Headers]
) -> None:
    """With one code and one text."""
    assert ask(channel, headers(token)) == REFUSED


def test_the_hash_is_no_token(channel: grpc.Channel, token: str, tokens: Path) -> None:
    """Whoever reads the file has no way in."""
    assert ask(channel, bearer(next(iter(read_hashes(tokens))))) == REFUSED


def test_a_token_of_10_kb_is_refused(channel: grpc.Channel, token: str) -> None:
    """By the interceptor, or by gRPC for its size; others are served."""
    code, _ = ask(channel, bearer("x" * 10_000))
    assert code in {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert ask(channel, bearer(token)) == ADMITTED


def raw_call(address: str, authorization: bytes) -> bytes:
    """What the server says to a GetModel whose header no gRPC client would send."""

    def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
        return (
            struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload
        )

    headers = {
        b":method": b"POST",
        b":scheme": b"http",
        b":path": b"/edgewise.v1.Generator/GetModel",
        b":authority": b"cloud",
        b"te": b"trailers",
        b"content-type": b"application/grpc",
        b"authorization": authorization,
    }
    block = b"".join(
        b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value
        for name, value in headers.items()
    )
    host, port = address.split(":")
    answer = b""
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b""))
        connection.sendall(frame(1, 4, 1, block) + frame(0, 1, 1, bytes(5)))
        while b"grpc-message" not in answer and (data := connection.recv(4096)):
            answer += data
    return answer


@pytest.mark.parametrize("stray", ["é".encode(), b"\xff\xfe"])
def test_a_token_that_is_not_ascii_is_refused(
    guarded: Running, token: str, stray: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """UTF-8 or not, and not quoted in the log either."""
    answer = raw_call(guarded.address, b"Bearer " + token.encode() + stray)
    assert b"grpc-status\x0216" in answer  # UNAUTHENTICATED
    assert token not in caplog.text
    assert b"grpc-status\x0214" in raw_call(guarded.address, b"Bearer " + token.encode())


def test_every_method_but_health_asks_for_a_token(channel: grpc.Channel, token: str) -> None:
    """Also reflection; load balancers have no token."""
    health = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
    assert health.status == health_pb2.HealthCheckResponse.NOT_SERVING
    generator = pb_grpc.GeneratorStub(channel)
    reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
    listing = reflection_pb2.ServerReflectionRequest(list_services="")
    calls: list[Callable[[], object]] = [
        lambda: generator.GetLoad(pb.GetLoadRequest()),
        lambda: list(generator.Generate(pb.GenerateRequest())),
        lambda: list(reflection.ServerReflectionInfo(iter([listing]))),
    ]
    for call in calls:
        with pytest.raises(grpc.RpcError) as error:
            call()
        assert (error.value.code(), error.value.details()) == REFUSED
    (answer,) = reflection.ServerReflectionInfo(iter([listing]), metadata=bearer(token))
    assert answer.list_services_response.service


def until(expected: object, found: Callable[[], object]) -> None:
    """Return once `found` gives what is expected; the test's timeout is the limit."""
    while found() != expected:
        time.sleep(0.05)


def test_the_file_is_followed(channel: grpc.Channel, token: str, tokens: Path) -> None:
    """Tokens added are admitted, tokens taken out are not, without a restart."""
    other, line = new_token("phone-2")
    assert ask(channel, bearer(other)) == REFUSED
    append_line(tokens, line)
    until(ADMITTED, lambda: ask(channel, bearer(other)))
    assert ask(channel, bearer(token)) == ADMITTED
    tokens.write_text(line)
    until(REFUSED, lambda: ask(channel, bearer(token)))
    assert ask(channel, bearer(other)) == ADMITTED


@pytest.mark.parametrize("how", ["damaged", "vanished"])
def test_the_last_good_file_stays_in_force(
    channel: grpc.Channel, token: str, tokens: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The log says where it is damaged, and not what is there: that could be a token."""
    good = tokens.read_bytes()
    if how == "damaged":
        tokens.write_bytes(good + b"phone-2 a-token-in-place-of-its-hash\n")
    else:
        tokens.unlink()
    while "stays in force" not in caplog.text:
        assert ask(channel, bearer(token)) == ADMITTED
        time.sleep(0.05)
    assert ask(channel, bearer(token)) == ADMITTED
    assert ("line 2" if how == "damaged" else "No such file") in caplog.text
    assert "in-place-of" not in caplog.text
    made, line = new_token("phone-3")
    tokens.write_text(line)
    until(ADMITTED, lambda: ask(channel, bearer(made)))


def test_tokens_are_in_no_log(
    channel: grpc.Channel, token: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither those admitted nor those refused, at any level."""
    caplog.set_level(logging.DEBUG)
    ask(channel, bearer(token))
    ask(channel, bearer(f"{token}x"))
    ask(channel, bearer(token) + bearer(token))
    assert token not in caplog.text


def test_a_token_file_may_have_comments_and_names_twice(tokens: Path) -> None:
    """Two tokens of a name, the old one and the new one, are both good."""
    lines = [new_token("phone-1")[1] for _ in range(2)]
    tokens.write_text(f"# ours\r\n\n{lines[0]}  # old\r\n\t{lines[1].upper()}")
    assert list(read_hashes(tokens).values()) == ["phone-1", "PHONE-1"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"phone-1\n", "line 1"),
        (b"# good\nphone-1 abc\n", "line 2"),
        (b"phone-1 " + b"0" * 63 + b"g", "line 1"),
        (b"phone-1 " + b"0" * 65, "line 1"),
        (b"two names " + b"0" * 64, "line 1"),
        (b"caf\xe9 " + b"0" * 64, "line 1"),
        (b"a " + b"0" * 64 + b"\nb " + b"0" * 64, "line 2.*earlier"),
        (None, "cannot read"),
    ],
)
def test_a_bad_token_file_is_refused_at_start(
    tokens: Path, content: bytes | None, words: str
) -> None:
    """By the number of its line."""
    if content is not None:
        tokens.write_bytes(content)
    with (
        pytest.raises(ServeError, match=words),
        serving("tales", load=False, security=Security(tokens=tokens)),
    ):
        pass


def test_a_token_file_is_made_for_its_owner_alone(tokens: Path) -> None:
    """And a line is added on a line of its own, to a token file only."""
    append_line(tokens, new_token("a")[1])
    assert tokens.stat().st_mode & 0o777 == 0o600
    tokens.write_bytes(tokens.read_bytes().rstrip())
    append_line(tokens, new_token("b")[1])
    assert list(read_hashes(tokens).values()) == ["a", "b"]
    tokens.write_text("dear diary")
    with pytest.raises(ServeError, match="line 1"):
        append_line(tokens, new_token("c")[1])
    assert tokens.read_text() == "dear diary"


@pytest.mark.parametrize("name", ["", "two words", "#1", "é", "x" * 65, "a\nb"])
def test_a_name_fits_a_line(name: str) -> None:
    with pytest.raises(ServeError, match="cannot name"):
        new_token(name)


# TLS


def test_tls(authority: Authority, pair: Pair, tmp_path: Path) -> None:
    """Who trusts the authority gets through; plain clients and who trusts another do not."""
    with serving("tales", load=False, security=tls(pair)) as running:
        with tls_channel(running, authority) as channel:
            assert ask(channel) == ADMITTED
        with grpc.insecure_channel(running.address) as channel:
            code, text = ask(channel)
            assert (code, text) != ADMITTED
            assert code is grpc.StatusCode.UNAVAILABLE
        with tls_channel(running, Authority(tmp_path)) as channel:
            assert "handshake failed" in ask(channel)[1]


def test_mutual_tls(authority: Authority, pair: Pair, tmp_path: Path) -> None:
    """Clients must show a certificate of the right authority."""
    strangers = Authority(tmp_path, "strangers")
    with serving("tales", load=False, security=tls(pair, client_ca=authority.file)) as running:
        for client, admitted in (
            (authority.issue("phone-1"), True),
            (strangers.issue("phone-2"), False),
            (None, False),
        ):
            with tls_channel(running, authority, client) as channel:
                assert (ask(channel) == ADMITTED) is admitted


def test_mutual_tls_and_tokens_are_both_asked_for(
    authority: Authority, pair: Pair, tokens: Path, token: str
) -> None:
    """One does not stand in for the other."""
    client = authority.issue("phone-1")
    security = tls(pair, client_ca=authority.file, tokens=tokens)
    with serving("tales", load=False, security=security) as running:
        with tls_channel(running, authority, client) as channel:
            assert ask(channel) == REFUSED
            assert ask(channel, bearer(token)) == ADMITTED
        with tls_channel(running, authority) as channel:
            assert ask(channel, bearer(token)) != ADMITTED


def test_a_new_certificate_is_followed(tmp_path: Path) -> None:
    """New connections are served with it; a key that is not its own leaves the last pair in force."""
    old, new = (Authority(tmp_path, name) for name in ("old", "new"))
    served, other = old.issue("server"), new.issue("other")

    def code(authority: Authority) -> tuple[grpc.StatusCode, str]:
        with tls_channel(running, authority) as channel:
            return ask(channel)

    with serving("tales", load=False, security=tls(served)) as running:
        assert code(old) == ADMITTED
        other.key.replace(served.key)
        time.sleep(1.1)  # until it looks again
        assert code(old) == ADMITTED
        other.certificate.replace(served.certificate)
        until(ADMITTED, lambda: code(new))
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
    authority = Authority(tmp_path)
    pair = authority.issue("server")
    spoil(pair, authority)
    with (
        pytest.raises(ServeError, match=words),
        serving("tales", load=False, security=tls(pair, client_ca=authority.file)),
    ):
        pass


# Addresses


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_needs_nothing(host: str) -> None:
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
    """One alone is not enough; whoever knows may do without."""
    files = dict.fromkeys(given, Path("file"))
    with pytest.raises(ServeError, match=missing):
        Security(**files).check(host)
    Security(**files, insecure=True).check(host)


def test_tls_and_tokens_open_it_to_others() -> None:
    Security(certificate=Path("c"), key=Path("k"), tokens=Path("t")).check("0.0.0.0")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("certificate",), "both"),
        (("key",), "both"),
        (("client_ca",), "beside it"),
    ],
)
def test_half_of_tls_is_refused(given: tuple[str, ...], words: str) -> None:
    """Also on loopback, and also with --insecure-i-know."""
    with pytest.raises(ServeError, match=words):
        Security(**dict.fromkeys(given, Path("file")), insecure=True).check("127.0.0.1")


# What tells callers apart


class Callers:
    """An observer that notes who asked."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def token(self, gap: float | None) -> None:
        """Nothing to note."""

    def ended(self, outcome: Outcome) -> None:
        """Note the name."""
        self.names.append(outcome.caller.name)


def names(running: Running, channel: grpc.Channel, headers: Headers | None = None) -> list[str]:
    running.server.answering._observer = callers = Callers()
    with pytest.raises(grpc.RpcError):
        list(pb_grpc.GeneratorStub(channel).Generate(pb.GenerateRequest(), metadata=headers))
    return callers.names


def test_a_caller_is_named_by_its_token(
    guarded: Running, channel: grpc.Channel, token: str
) -> None:
    assert names(guarded, channel, bearer(token)) == ["phone-1"]


def test_or_by_its_certificate(authority: Authority, pair: Pair) -> None:
    with (
        serving("tales", load=False, security=tls(pair, client_ca=authority.file)) as running,
        tls_channel(running, authority, authority.issue("tablet")) as channel,
    ):
        assert names(running, channel) == ["tablet"]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_or_by_its_address_without_the_port(host: str) -> None:
    with serving("tales", load=False, host=host) as running:
        port = running.address.rpartition(":")[2]
        with grpc.insecure_channel(
            f"[{host}]:{port}" if ":" in host else running.address
        ) as channel:
            assert names(running, channel) == [host]
