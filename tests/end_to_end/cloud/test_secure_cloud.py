"""The router and a cloud that requires TLS, certificates and tokens."""

import logging
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgewise import (
    CloudAccessError,
    CloudSecurity,
    CloudUnavailableError,
    ConfigurationError,
    DeviceState,
    LatencyLog,
    NoSourceError,
    Router,
    Source,
    VetoCode,
)
from edgewise.cli.exit_codes import ExitCode
from edgewise_cloud.serving.security.settings import Security
from edgewise_cloud.serving.security.tokens import append_line, new_token
from tests.support.certificates import Authority, Pair
from tests.support.command_line import RunCommand
from tests.support.service import Running, serving
from tests.support.timeouts import PATIENT

DRAINED = DeviceState(battery=0.03, charging=False)
PROMPT = "in the winter the water was"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def phone(authority: Authority) -> Pair:
    return authority.issue("phone-1")


@pytest.fixture(scope="module")
def tokens(authority: Authority) -> Path:
    return authority.file.with_name("tokens")


@pytest.fixture(scope="module")
def token(tokens: Path) -> str:
    made, line = new_token("phone-1")
    append_line(tokens, line)
    return made


@pytest.fixture
def service(
    exact_folder: Path, authority: Authority, tokens: Path, token: str
) -> Iterator[Running]:
    """It requires TLS, client certificates and tokens. One at a time: the next uses its programs."""
    pair = authority.issue("server")
    security = Security(
        certificate=pair.certificate, key=pair.key, client_ca=authority.file, tokens=tokens
    )
    with serving(str(exact_folder), slots=2, security=security) as running:
        yield running


@pytest.fixture(scope="module")
def admitted(authority: Authority, phone: Pair, token: str) -> dict[str, object]:
    """What the service requires."""
    return {
        "root_certificates": authority.file,
        "client_certificate": phone.certificate,
        "client_key": phone.key,
        "token": token,
    }


def router_to(address: str, folder: Path, **security: object) -> Router:
    return Router(
        folder,
        cloud=address,
        cloud_security=CloudSecurity(**security),
        cloud_timeouts=PATIENT,
        device=DeviceState,
        latency=LatencyLog(),
        threads=1,
    )


def test_the_cloud_answers_an_admitted_device(
    service: Running,
    exact_folder: Path,
    admitted: dict[str, object],
    token: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """With the same tokens as the device; the secret token is in no log."""
    caplog.set_level(logging.DEBUG)
    with router_to(service.address, exact_folder, **admitted) as router:
        options = {"max_tokens": 20, "temperature": 0.0}
        in_cloud = router.generate(PROMPT, mode="only_in_cloud", **options)
        on_device = router.generate(PROMPT, mode="only_on_device", **options)
    assert in_cloud.source is Source.IN_CLOUD
    assert in_cloud.token_ids == on_device.token_ids
    assert token not in caplog.text


@pytest.mark.parametrize(
    ("wrong", "words"), [(None, "requires a token"), ("wrong", "rejected the token")]
)
def test_an_unknown_token_is_refused(
    service: Running, exact_folder: Path, admitted: dict[str, object], wrong: str | None, words: str
) -> None:
    """With a typed error that says what to check; the device answers where it may."""
    security = admitted | {"token": wrong}
    with router_to(service.address, exact_folder, **security) as router:
        with pytest.raises(CloudAccessError, match=words) as error:
            router.describe_cloud()
        assert wrong is None or f" {wrong}" not in str(error.value)
        generation = router.generate(PROMPT, max_tokens=5, mode="prefer_in_cloud")
        assert generation.source is Source.ON_DEVICE
        veto = generation.decision.vetoes[Source.IN_CLOUD]
        assert veto.code is VetoCode.FAILED
        with pytest.raises(NoSourceError, match=words):
            router.generate(PROMPT, max_tokens=5, mode="only_in_cloud")


def test_a_handshake_that_fails_says_so(
    service: Running, exact_folder: Path, admitted: dict[str, object], tmp_path: Path
) -> None:
    """Another authority, no certificate, no TLS: in each case the cloud is unavailable."""
    stranger = Authority(tmp_path, "stranger")
    certificate = {"client_certificate": None, "client_key": None}
    for security, words in (
        (admitted | {"root_certificates": stranger.file}, "over TLS .*handshake failed"),
        (admitted | certificate, "over TLS .*client certificate"),
        ({"tls": True}, "over TLS"),
        ({"token": admitted["token"]}, "and without TLS"),
    ):
        with (
            router_to(service.address, exact_folder, **security) as router,
            pytest.raises(CloudUnavailableError, match=words),
        ):
            router.describe_cloud()


@pytest.mark.parametrize("address", ["192.0.2.1:50051", "cloud.example:443", "[2001:db8::1]:443"])
def test_a_token_is_never_sent_in_plain_text(address: str, exact_folder: Path) -> None:
    """It is refused before anything is sent; loopback is allowed."""
    with pytest.raises(ConfigurationError, match="use TLS") as error:
        router_to(address, exact_folder, token="secret")
    assert "secret" not in str(error.value)
    router_to(address, exact_folder, token="secret", tls=True).close()
    for loopback in ("127.0.0.1:1", "[::1]:1", "localhost:1"):
        router_to(loopback, exact_folder, token="secret").close()


@pytest.mark.parametrize("address", ["192.0.2.1:50051", "cloud.example:443", "[2001:db8::1]:443"])
def test_prompts_leave_in_plain_text_only_if_allowed(address: str, exact_folder: Path) -> None:
    """By `insecure`, which says so, for any other machine; a token even then not."""
    with pytest.raises(ConfigurationError, match=r"use TLS.*trust, set insecure of CloudSecurity"):
        router_to(address, exact_folder)
    router_to(address, exact_folder, insecure=True).close()
    with pytest.raises(ConfigurationError, match="a token is set"):
        router_to(address, exact_folder, insecure=True, token="secret")


def test_insecure_and_tls_exclude_each_other() -> None:
    """And each is True or False: the text "false" is neither."""
    with pytest.raises(ConfigurationError, match="leave out insecure, or tls"):
        CloudSecurity(insecure=True, tls=True)
    for name in ("insecure", "tls"):
        with pytest.raises(
            ConfigurationError, match=f"{name} is 'false'; it must be True or False"
        ):
            CloudSecurity(**{name: "false"})


def test_tokens_work_without_tls_on_loopback(exact_folder: Path, tokens: Path, token: str) -> None:
    """For a proxy that terminates TLS."""
    with (
        serving(str(exact_folder), slots=2, security=Security(tokens=tokens)) as running,
        router_to(running.address, exact_folder, token=token) as router,
    ):
        assert "exact" in router.describe_cloud()


def test_the_token_is_not_shown() -> None:
    """Neither in the settings' repr nor in errors."""
    assert "secret" not in repr(CloudSecurity(token="secret"))
    for bad in ("secret\n", "secret code", "sécret", ""):
        with pytest.raises(ConfigurationError, match="token") as error:
            CloudSecurity(token=bad)
        assert "cret" not in str(error.value)


@pytest.mark.parametrize("key", ["missing", "wrong", "none", "not PEM", "encrypted"])
def test_files_that_cannot_be_used_are_configuration_errors(
    key: str, exact_folder: Path, phone: Pair, authority: Authority, tmp_path: Path
) -> None:
    """Raised when the router is made, not with its first request."""
    file: Path | None = tmp_path / "key"
    if key == "none":
        file = None
    elif key == "not PEM":
        file.write_text("key")
    elif key == "wrong":
        file = authority.issue("other").key
    elif key == "encrypted":
        command = ["openssl", "pkcs8", "-topk8", "-in", phone.key, "-out", file]
        subprocess.run([*command, "-passout", "pass:secret"], check=True)
    with pytest.raises(ConfigurationError):
        router_to("a:1", exact_folder, client_certificate=phone.certificate, client_key=file)


@pytest.mark.parametrize("content", [None, "", "no certificate"])
def test_invalid_roots_are_configuration_errors(
    content: str | None, exact_folder: Path, tmp_path: Path
) -> None:
    """A missing file, an empty one, and one without a certificate."""
    file = tmp_path / "roots.pem"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigurationError, match=r"roots\.pem"):
        router_to("a:1", exact_folder, root_certificates=file)


# The command lines


@pytest.fixture
def secured(
    service: Running, exact_folder: Path, authority: Authority, phone: Pair
) -> tuple[str | Path, ...]:
    """All options but the token."""
    return (
        *("--model", exact_folder, "--cloud", service.address, "--cloud-ca", authority.file),
        *("--cloud-certificate", phone.certificate, "--cloud-key", phone.key),
    )


def test_doctor_describes_a_secure_cloud(
    edgewise: RunCommand, secured: tuple[str | Path, ...], token: str, tmp_path: Path
) -> None:
    """With a token from a file or the environment; without one it says what to check."""
    file = tmp_path / "token"
    file.write_text(f"{token}\n")
    assert "serves exact" in edgewise("doctor", *secured, "--cloud-token-file", file).stdout
    assert "serves exact" in edgewise("doctor", *secured, EDGEWISE_CLOUD_TOKEN=token).stdout
    refused = edgewise("doctor", *secured)
    assert refused.returncode == ExitCode.CLOUD
    assert "UNAUTHENTICATED" in refused.stdout


def test_generate_and_route_use_a_secure_cloud(
    edgewise: RunCommand, secured: tuple[str | Path, ...], token: str
) -> None:
    """With the same options."""
    secret = {"EDGEWISE_CLOUD_TOKEN": token}
    options = (*secured, "--mode", "only_in_cloud")
    done = edgewise("generate", PROMPT, *options, "--max-tokens", "5", **secret)
    assert "in_cloud" in done.stderr
    assert done.returncode == 0
    done = edgewise("route", PROMPT, *options, "--json", **secret)
    assert done.returncode == 0
    assert "in_cloud" in done.stdout
