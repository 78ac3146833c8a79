"""What every command of `edgewise-cloud` does the same way."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edgewise_cloud.cli.app import app
from tests.support.command_line import RunCommand, run

COMMANDS = [command.name for command in app.registered_commands]
# Runs the command line, and prints which heavy packages it imported.
WATCHED = """
import sys
from edgewise_cloud.cli import main
try:
    main()
finally:
    print("imported", {"tensorflow", "keras", "jax", "ray"} & {*sys.modules}, file=sys.stderr)
"""


@pytest.mark.parametrize("command", [None, *COMMANDS])
@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help(
    command: str | None, option: str, run_command: RunCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both print it; every option has a text, a default unless it is required, no Python type."""
    monkeypatch.setenv("COLUMNS", "400")
    done = run_command(*filter(None, (command, option)))
    assert done.returncode == 0
    assert not re.search(r"<(bool|str|path|int|float|list)\b|{", done.stdout)
    rows = [line for line in done.stdout.splitlines() if line.lstrip("│* ").startswith("--")]
    assert rows
    for row in rows:
        name, text = row.strip("│* ").split(maxsplit=1)
        assert len(text.split()) > 3, row
        if name not in {"--help", "--version", "--install-completion", "--show-completion"}:
            assert "[default: " in text or "[required]" in text, row


def test_exit_codes_are_in_the_help(run_command: RunCommand) -> None:
    """Below the commands."""
    assert "130 interrupted" in " ".join(run_command("--help").stdout.split())


def test_version(run_command: RunCommand) -> None:
    """A name and a number."""
    name, number = run_command("--version").stdout.split()
    assert name == "edgewise-cloud"
    assert number[0].isdigit()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--help"], ""),
        (["convert", "no-such", "OUT"], "no GPT-2 preset"),
        (["convert", "tales", "."], "exists already"),
        (["convert", "tales", "OUT", "--text", "none.txt"], "cannot be read"),
        (["convert", "tales", "OUT", "--top-p", "0"], "above 0"),
        (["evaluate", "tales", "--text", "none.txt"], "cannot be read"),
        (["train", "--text", "none.txt", "--out", "OUT"], "cannot be read"),
        (["train", "--text", "text", "--out", "."], "is not empty"),
        (["finetune", "-c", "tales", "--text", "text", "--out", "OUT"], "one row takes 257"),
        (["train", "--text", "text", "--out", "OUT"], "too short for a vocabulary"),
        (["finetune", "-c", "no-such", "--text", "text", "--out", "OUT"], "no GPT-2 preset"),
        (["finetune", "-c", "tales", "--text", "text", "--out", "text/OUT"], "Not a directory"),
        (["serve", "--model", "no-such"], "no GPT-2 preset"),
        (["serve", "--port", "65536"], "--port"),
        (["serve", "--port", "0", "--slots", "1000000"], "--slots is 1000000; their caches would"),
        (["serve", "--model", "tales", "--model", "tales"], "have the same vocabulary"),
        (["serve", "--channel", "."], "holds no channel"),
        (["serve", "--delivery-bandwidth", "9"], "--delivery-bandwidth is 9; it must be at least"),
        (["convert", "tales", "/proc/x"], "/proc/x cannot be written"),
    ],
)
def test_invalid_input_is_refused_before_tensorflow_is_imported(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    """With status 2; help needs neither TensorFlow nor Keras."""
    (tmp_path / "text").write_text("Once upon a time.")
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == (2 if message else 0)
    assert message in done.stderr
    assert "imported set()" in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["text"]


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"]
)
def test_signal_while_tensorflow_is_imported(
    number: signal.Signals, status: int, tmp_path: Path
) -> None:
    """No traceback, nothing left behind."""
    process = subprocess.Popen(
        [Path(sys.executable).with_name("edgewise-cloud"), "convert", "tales", tmp_path / "out"],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    assert process.stderr.readline() == "importing TensorFlow\n"
    process.send_signal(number)
    _, rest = process.communicate()
    assert process.returncode == status
    assert "Traceback" not in rest
    assert list(tmp_path.iterdir()) == []


def test_a_shell_can_complete() -> None:
    """The script for it names the command, and the options of `serve` are found."""
    script = run(command="edgewise-cloud", _EDGEWISE_CLOUD_COMPLETE="source_bash").stdout
    assert "edgewise-cloud" in script
    found = run(
        command="edgewise-cloud",
        _EDGEWISE_CLOUD_COMPLETE="complete_bash",
        COMP_WORDS="edgewise-cloud serve --tls",
        COMP_CWORD="2",
    )
    assert "--tls-client-ca" in found.stdout


# Stops while files are being written.
TERMINATED = """
import os, signal, sys, threading
from edgewise_cloud.convert import convert
def conversion(checkpoint, out, *_, **__):
    with convert._atomic_folder(out):
        os.kill(os.getpid(), signal.SIGTERM)
        threading.Event().wait(60)
import edgewise_cloud.cli.app as app
convert.convert = conversion
sys.exit(app.run())
"""


def test_sigterm_removes_what_convert_has_written(tmp_path: Path) -> None:
    """As Ctrl-C does."""
    done = subprocess.run(
        [sys.executable, "-c", TERMINATED, "convert", "tales", tmp_path / "out"],
        capture_output=True,
        check=False,
    )
    assert done.returncode == 143, done.stderr
    assert list(tmp_path.iterdir()) == []
