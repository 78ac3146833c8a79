"""What every command of `edgewise-cloud` does the same way."""

import json
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
SUBCOMMANDS = [
    f"{group.name} {name}"
    for group in app.registered_groups
    for name in ("", *(command.name for command in group.typer_instance.registered_commands))
]
# Runs command lines, each in a fork and a folder of its own, which writes its standard error, its exit
# status and which heavy packages were imported. What the commands import is imported once for all.
WATCHED = """
import gc, json, os, sys
import edgewise_cloud.channel.changes, edgewise_cloud.channel.publish, edgewise_cloud.cli.app
import edgewise_cloud.convert.convert, edgewise_cloud.train.finetune, edgewise_cloud.train.pretrain
import edgewise_cloud.serving.engine.load_engines, edgewise_cloud.serving.server.server
import pydantic.type_adapter, pydantic.types
from edgewise_cloud.cli import main
gc.freeze()  # so that a fork need not walk, and copy, what was imported
for number, arguments in enumerate(json.loads(sys.argv[1])):
    if os.fork():
        status = os.waitstatus_to_exitcode(os.wait()[1])
        open(f"{number}.status", "w").write(str(status))
        continue
    os.dup2(os.open(f"{number}.stderr", os.O_WRONLY | os.O_CREAT), 2)
    os.chdir(str(number))
    sys.argv = ["edgewise-cloud", *arguments]
    try:
        main()
    finally:
        print("imported", {"tensorflow", "keras", "jax", "ray"} & {*sys.modules}, file=sys.stderr)
"""
REFUSED = [
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
    (["publish", "tales", "--channel", "OUT"], "OUT is no channel"),
    (["channel", "refresh", "OUT"], "OUT is no channel"),
]


@pytest.mark.parametrize("command", ["", *COMMANDS, *SUBCOMMANDS])
@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help(
    command: str, option: str, run_command: RunCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both print it; every option has a text, a default unless it is required, no Python type."""
    monkeypatch.setenv("COLUMNS", "400")
    done = run_command(*command.split(), option)
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


@pytest.fixture(scope="module")
def refusals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which WATCHED ran every command line of REFUSED."""
    folder = tmp_path_factory.mktemp("refusals")
    for number in range(len(REFUSED)):
        (folder / str(number)).mkdir()
        (folder / str(number) / "text").write_text("Once upon a time.")
    arguments = json.dumps([arguments for arguments, _ in REFUSED])
    command = [sys.executable, "-c", WATCHED, arguments]
    subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL)
    return folder


@pytest.mark.parametrize(
    ("number", "message"),
    list(enumerate(message for _, message in REFUSED)),
    ids=[" ".join(arguments) for arguments, _ in REFUSED],
)
def test_invalid_input_is_refused_before_tensorflow_is_imported(
    number: int, message: str, refusals: Path
) -> None:
    """With status 2; help needs neither TensorFlow nor Keras."""
    printed = (refusals / f"{number}.stderr").read_text()
    assert (refusals / f"{number}.status").read_text() == ("2" if message else "0")
    assert message in printed
    assert "imported set()" in printed
    assert "Traceback" not in printed
    assert [path.name for path in (refusals / str(number)).iterdir()] == ["text"]


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
