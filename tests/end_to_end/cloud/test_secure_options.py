"""Options for TLS and tokens on the command lines, without a cloud."""

from pathlib import Path

import pytest

from tests.support.command_line import RunCommand


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--cloud", "192.0.2.1:1"), "use TLS"),
        (("--cloud", "fd00::5:8443"), "write '[fd00::5]:8443'"),
        (("--cloud", "a:1", "--cloud-ca", "/none"), "cannot read /none"),
        (("--cloud", "a:1", "--cloud-key", "/none"), "must be set together"),
        (("--cloud", "a:1", "--cloud-token-file", "/none"), "cannot read /none"),
        (("--cloud", "a:1", "--cloud-token-file", "/dev/null"), "token is empty"),
    ],
)
def test_invalid_cloud_options_are_one_sentence(
    edgewise: RunCommand, arguments: tuple[str, ...], words: str
) -> None:
    """Which does not show the token."""
    done = edgewise("doctor", *arguments, EDGEWISE_CLOUD_TOKEN="secret")
    assert done.returncode == 2
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
    assert "secret" not in done.stderr + done.stdout


def test_an_operator_makes_tokens(run_command: RunCommand, tmp_path: Path) -> None:
    """Standard output gets the token; standard error its line, unless a file does."""
    shown = run_command("token", "phone-1")
    assert len(shown.stdout.strip()) == 43
    assert shown.stderr.startswith("phone-1 ")
    file = tmp_path / "tokens"
    kept = run_command("token", "phone-1", "--append", file)
    assert len(kept.stdout.strip()) == 43
    assert kept.stderr == ""
    assert kept.stdout.strip() not in file.read_text()
    assert file.read_text().startswith("phone-1 ")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("serve", "--host", "0.0.0.0"), "refusing to listen"),
        (("serve", "--tls-key", "/none"), "needs both"),
        (("serve", "--tls-key", "/none", "--tls-certificate", "/none"), "cannot read /none"),
        (("serve", "--tokens", "/none"), "cannot read /none"),
        (("token", "two words"), "cannot name a token"),
    ],
)
def test_invalid_server_options_are_one_sentence(
    run_command: RunCommand, arguments: tuple[str, ...], words: str
) -> None:
    """On standard error, with status 2."""
    done = run_command(*arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_token_that_cannot_be_kept_is_said_to_be_invalid(run_command: RunCommand) -> None:
    """It has been printed by then: a token that is kept, and was never seen, would be worse."""
    done = run_command("token", "a", "--append", "/none/tokens")
    assert done.returncode == 2
    assert "cannot write /none/tokens" in done.stderr
    assert "the printed token is not valid" in done.stderr
