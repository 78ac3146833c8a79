"""Bearer tokens over a real socket, and the file that lists them."""

import logging
import os
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from edgewise_cloud.errors import ServeError
from edgewise_cloud.serving.security.settings import Security
from edgewise_cloud.serving.security.tokens import append_line, new_token, read_hashes
from edgewise_proto import generation_pb2 as pb
from edgewise_proto import generation_pb2_grpc as pb_grpc
from tests.support.credentials import ADMITTED, REFUSED, Headers, bearer, get_model
from tests.support.generate_requests import until
from tests.support.network.raw_http2 import Http2, call
from tests.support.service import Running, serving


def test_a_known_token_is_admitted(channel: grpc.Channel, token: str) -> None:
    """However its scheme is capitalised."""
    assert get_model(channel, bearer(token)) == ADMITTED
    assert get_model(channel, [("authorization", f"bearer {token}")]) == ADMITTED


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
    assert get_model(channel, headers(token)) == REFUSED


def test_a_hash_is_not_a_token(channel: grpc.Channel, token: str, tokens: Path) -> None:
    """Reading the file gives no access."""
    assert get_model(channel, bearer(next(iter(read_hashes(tokens))))) == REFUSED


def test_a_token_of_10_kb_is_refused(channel: grpc.Channel, token: str) -> None:
    """By the interceptor, or by gRPC for its size; others are admitted."""
    code, _ = get_model(channel, bearer("x" * 10_000))
    assert code in {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert get_model(channel, bearer(token)) == ADMITTED


def raw_status(address: str, authorization: bytes) -> bytes:
    """The trailers of a GetModel whose header no gRPC client would send."""
    with Http2(address) as http2:
        path = "/edgewise.v1.Generator/GetModel"
        http2.send(call(1, b"", path=path, authorization=authorization))
        return http2.answer(1)[-1].payload


@pytest.mark.parametrize("stray", ["é".encode(), b"\xff\xfe"])
def test_a_token_that_is_not_ascii_is_refused(
    guarded: Running, token: str, stray: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """UTF-8 or not, and it is not logged."""
    answer = raw_status(guarded.address, b"Bearer " + token.encode() + stray)
    assert b"grpc-status\x0216" in answer  # UNAUTHENTICATED
    assert token not in caplog.text
    assert b"grpc-status\x0214" in raw_status(guarded.address, b"Bearer " + token.encode())


def test_every_method_but_health_needs_a_token(channel: grpc.Channel, token: str) -> None:
    """Also reflection. Load balancers, which call health, have no token."""
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
    for send in calls:
        with pytest.raises(grpc.RpcError) as error:
            send()
        assert (error.value.code(), error.value.details()) == REFUSED
    (answer,) = reflection.ServerReflectionInfo(iter([listing]), metadata=bearer(token))
    assert answer.list_services_response.service


def test_changes_to_the_file_take_effect(channel: grpc.Channel, token: str, tokens: Path) -> None:
    """Added tokens are admitted and removed ones are not, without a restart."""
    other, line = new_token("phone-2")
    assert get_model(channel, bearer(other)) == REFUSED
    append_line(tokens, line)
    until(lambda: get_model(channel, bearer(other)) == ADMITTED)
    assert get_model(channel, bearer(token)) == ADMITTED
    tokens.write_text(line)
    until(lambda: get_model(channel, bearer(token)) == REFUSED)
    assert get_model(channel, bearer(other)) == ADMITTED


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("damaged", "line 2"),
        ("missing", "No such file"),
        ("fifo", "not a regular file"),
        ("huge", "is it the right file"),
    ],
)
def test_the_last_good_file_stays_in_use(
    channel: grpc.Channel,
    token: str,
    tokens: Path,
    how: str,
    words: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The log has the number of the bad line, not its content, which could be a token.

    No caller waits, whatever is in the file's place.
    """
    good = tokens.read_bytes()
    tokens.unlink()
    if how == "damaged":
        tokens.write_bytes(good + b"phone-2 a-token-in-place-of-its-hash\n")
    elif how == "fifo":
        os.mkfifo(tokens)
    elif how == "huge":
        with tokens.open("wb") as file:
            file.truncate(300_000_000)

    def admitted() -> bool:
        assert get_model(channel, bearer(token)) == ADMITTED
        return "stays in use" in caplog.text

    until(admitted)
    assert get_model(channel, bearer(token)) == ADMITTED
    assert words in caplog.text
    assert "in-place-of" not in caplog.text
    tokens.unlink(missing_ok=True)
    made, line = new_token("phone-3")
    tokens.write_text(line)
    until(lambda: get_model(channel, bearer(made)) == ADMITTED)


def test_tokens_are_in_no_log(
    channel: grpc.Channel, token: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither admitted nor refused ones, at any level."""
    caplog.set_level(logging.DEBUG)
    get_model(channel, bearer(token))
    get_model(channel, bearer(f"{token}x"))
    get_model(channel, bearer(token) + bearer(token))
    assert token not in caplog.text


def test_a_token_file_may_have_comments_and_names_twice(tokens: Path) -> None:
    """A name may have two tokens, for rotation."""
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
    """With the number of its line."""
    if content is not None:
        tokens.write_bytes(content)
    with (
        pytest.raises(ServeError, match=words),
        serving("tales", load=False, security=Security(tokens=tokens)),
    ):
        pass


def test_a_token_file_that_is_none_is_refused_at_start(tokens: Path) -> None:
    """A FIFO would be waited for."""
    os.mkfifo(tokens)
    with pytest.raises(ServeError, match="not a regular file"):
        read_hashes(tokens)


def test_a_new_token_file_has_mode_600(tokens: Path) -> None:
    """Lines are appended on a line of their own, and only to token files."""
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
def test_an_invalid_name_is_refused(name: str) -> None:
    """It must fit in a line of the file."""
    with pytest.raises(ServeError, match="cannot name"):
        new_token(name)
