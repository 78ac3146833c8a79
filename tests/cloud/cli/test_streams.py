"""Standard streams that are closed, full, or of another encoding."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgewise_cloud.cli import app
from edgewise_cloud.serving.security.tokens import read_hashes
from tests.support.command_line import RunCommand

COMMAND = ["-c", "from edgewise_cloud.cli import main; main()"]
CLOSED = "import os, sys; os.close(1); os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
UNUSUAL = (
    "import edgewise_cloud.cli.app as app; app._status = lambda: app.emit('1 → 2 —'); app.run()"
)


def start(
    *arguments: str | Path, stdout: object = subprocess.PIPE, **environment: str
) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        [sys.executable, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        check=False,
        env=os.environ | environment,
    )


def test_text_that_the_stream_cannot_encode_is_escaped() -> None:
    """The result of a long command is not lost."""
    done = start("-c", UNUSUAL, PYTHONIOENCODING="ascii")
    assert done.stdout == b"1 \\u2192 2 \\u2014\n"
    assert done.stderr == b""


def test_closed_standard_output_is_one_sentence() -> None:
    """And a failure, though nothing could be printed."""
    done = start("-c", CLOSED, *COMMAND, "token", "phone", stdout=None)
    assert done.returncode == 1
    assert done.stderr == b"error: standard output is closed\n"


def test_impossible_width_is_ignored() -> None:
    """Nothing would be printed otherwise, not even errors."""
    assert b"no GPT-2" in start(*COMMAND, "serve", "-m", "no-such", COLUMNS="0").stderr


@pytest.mark.parametrize("arguments", [("-V",), ("-h",), (), ("token", "-h"), ("token", "phone")])
def test_gone_reader_is_exit_status_141(arguments: tuple[str, ...]) -> None:
    """Whoever prints: we, Typer or Rich."""
    read, write = os.pipe()
    os.close(read)
    done = start(*COMMAND, *arguments, stdout=write)
    os.close(write)
    assert done.stderr == b""
    assert done.returncode == 141


def test_result_that_cannot_be_written_goes_to_standard_error() -> None:
    """After a sentence that says so: it may have taken hours."""
    with Path("/dev/full").open("w") as full:
        done = start("-c", UNUSUAL, stdout=full)
    assert done.stderr.decode() == (
        "error: standard output cannot be written: No space left on device\n1 → 2 —\n"
    )


def test_token_that_could_not_be_printed_is_not_admitted(tmp_path: Path) -> None:
    """Nobody has it."""
    with Path("/dev/full").open("w") as full:
        done = start(*COMMAND, "token", "phone", "--append", tmp_path / "f", stdout=full)
    assert done.returncode == 1
    assert done.stderr == b"error: standard output cannot be written: No space left on device\n"
    assert not (tmp_path / "f").exists()


def test_token_that_was_not_appended_is_said_to_be_invalid(
    tmp_path: Path, run_command: RunCommand
) -> None:
    """It has been printed by then."""
    done = run_command("token", "phone", "--append", tmp_path / "no" / "f")
    assert done.returncode == 2
    assert "the printed token is not valid" in done.stderr
    assert run_command("token", "phone", "--append", tmp_path / "f").returncode == 0
    assert list(read_hashes(tmp_path / "f").values()) == ["phone"]


def test_too_little_memory_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, run_command: RunCommand
) -> None:
    """Wherever it ends."""

    def exhausted() -> int:
        raise MemoryError("Unable to allocate 1 PiB")

    monkeypatch.setattr(app, "_status", exhausted)
    done = run_command("serve")
    assert done.returncode == 1
    assert done.stderr == "error: there is not enough memory: Unable to allocate 1 PiB\n"
