"""`edgewise-cloud load` over TLS and mutual TLS, with a token: real sockets, a fake model."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgewise_cloud.serving.security.settings import Security
from edgewise_cloud.serving.security.tokens import append_line, new_token
from tests.cloud.loadtest.fake_service import FakeService, fake_in_thread
from tests.support.certificates import Authority, Pair
from tests.support.command_line import RunCommand


@dataclass
class Guarded:
    """A service that asks for a client certificate and a token."""

    address: str
    authority: Authority
    client: Pair
    token: Path

    def options(self, *left_out: str) -> list[str]:
        """All that it asks for, but what is left out."""
        given = {
            "--cloud-ca": self.authority.file,
            "--cloud-certificate": self.client.certificate,
            "--cloud-key": self.client.key,
            "--cloud-token-file": self.token,
        }
        options = ["--target", self.address, "--requests=2", "--streams=1", "--max-tokens=9"]
        for name, value in given.items():
            options += [] if name in left_out else [name, str(value)]
        return options


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("guarded")
    authority = Authority(folder)
    server, client = authority.issue("server"), authority.issue("phone-1")
    secret, line = new_token("phone-1")
    append_line(folder / "tokens", line)
    (folder / "token").write_text(secret + "\n")
    security = Security(
        certificate=server.certificate,
        key=server.key,
        client_ca=authority.file,
        tokens=folder / "tokens",
    )
    with fake_in_thread(FakeService(), security) as address:
        yield Guarded(address, authority, client, folder / "token")


def test_tls_with_a_client_certificate_and_a_token(
    guarded: Guarded, run_command: RunCommand
) -> None:
    """Every request is admitted and completed."""
    done = run_command("load", *guarded.options())
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["completed"] == 2


def test_the_token_may_be_in_the_environment(
    guarded: Guarded, run_command: RunCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for `edgewise`."""
    monkeypatch.setenv("EDGEWISE_CLOUD_TOKEN", guarded.token.read_text().strip())
    done = run_command("load", *guarded.options("--cloud-token-file"))
    assert json.loads(done.stdout)["completed"] == 2


@pytest.mark.parametrize(("token", "problem"), [("", "asks for a"), ("other", "refuses the")])
def test_a_missing_or_wrong_token_is_refused(
    token: str,
    problem: str,
    guarded: Guarded,
    run_command: RunCommand,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each in its own words. The service was reached, so the status is that of invalid input."""
    monkeypatch.setenv("EDGEWISE_CLOUD_TOKEN", token)
    done = run_command("load", *guarded.options("--cloud-token-file"))
    assert done.returncode == 2
    assert f"{problem} token: " in done.stderr
    assert "--cloud-token-file" in done.stderr


def test_an_unknown_authority_is_an_unreachable_service(
    guarded: Guarded, run_command: RunCommand, tmp_path: Path
) -> None:
    """The message has the reason, and the option."""
    other = Authority(tmp_path, "other")
    options = [*guarded.options("--cloud-ca"), "--cloud-ca", str(other.file)]
    done = run_command("load", *options)
    assert done.returncode == 4
    assert "--cloud-ca" in done.stderr
    assert "certificate" in done.stderr.lower()
