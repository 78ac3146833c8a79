"""Standard streams that are closed, full, or of another encoding; and Ctrl-C at any time."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from edgewise.cli.exit_codes import ExitCode
from tests.support.forked_command import ForkedCommand

COMMAND = [sys.executable, "-m", "edgewise_command"]
CLOSED = "import os, sys; os.close(1); os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"


@pytest.fixture(autouse=True)
def _own_folders(tmp_path, monkeypatch):
    """Keep the user's settings out."""
    for name in ("CACHE", "CONFIG"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name))


@pytest.fixture
def gone_reader():
    """A pipe that nobody reads."""
    read, write = os.pipe()
    os.close(read)
    yield write
    os.close(write)


def run(
    *arguments,
    start=(),
    stdin=subprocess.DEVNULL,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    **environment,
):
    return subprocess.run(
        [*(start or COMMAND), *arguments],
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        check=False,
        env=os.environ | environment,
    )


@pytest.fixture(scope="module")
def forked():
    """Runs the command as `run` does, without its start."""
    with ForkedCommand() as command, Path(os.devnull).open() as nothing:

        def run(*arguments, stdin=nothing, stdout=None, stderr=None):
            with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
                streams = {"stdin": stdin, "stdout": stdout or out, "stderr": stderr or err}
                numbers = {
                    name: stream if isinstance(stream, int) else stream.fileno()
                    for name, stream in streams.items()
                }
                status = command.run(*arguments, **numbers)
                printed = [file.seek(0) or file.read() for file in (out, err)]
            return subprocess.CompletedProcess(arguments, status, *printed)

        yield run


@pytest.mark.parametrize("encoding", ["ascii:strict", "latin-1"])
def test_text_that_the_stream_cannot_encode_is_escaped(encoding, tmp_path):
    """The file's name, beyond Latin-1; a table in a narrow terminal cuts nothing; JSON is valid."""
    config = tmp_path / "ł—😀.toml"
    config.touch()
    environment = {"EDGEWISE_CONFIG": str(config), "PYTHONIOENCODING": encoding}
    done = run("doctor", **environment, COLUMNS="30")
    assert done.returncode == 0, done.stderr
    text = "".join(
        line.split("|")[2].strip() for line in done.stdout.decode("latin-1").split("\n")[1:8]
    )
    assert "\\u0142\\u2014" in text
    assert "\\u2026" not in text
    report = json.loads(run("doctor", "--json", **environment).stdout)
    assert report["config"] == str(config)


def test_closed_standard_output_is_one_sentence():
    """And a failure, though nothing could be printed."""
    done = run(*COMMAND[1:], "route", "a", start=[sys.executable, "-c", CLOSED], stdout=None)
    assert done.returncode == ExitCode.FAILED
    assert done.stderr == b"error: standard output is closed\n"


@pytest.mark.parametrize(
    "arguments", [("-V",), ("-h",), (), ("generate", "-h"), ("route", "a"), ("route", "a", "-j")]
)
def test_gone_reader_is_exit_status_141(arguments, gone_reader, forked):
    """Whoever prints: we, Typer or Rich."""
    done = forked(*arguments, stdout=gone_reader)
    assert done.stderr == b""
    assert done.returncode == ExitCode.PIPE_CLOSED


@pytest.mark.parametrize(
    ("arguments", "status"),
    [(("route", "a"), 0), (("route", "-n", "0", "a"), 2), (("route", "--no-such"), 2)],
)
def test_gone_reader_of_standard_error_keeps_the_exit_status(
    arguments, status, gone_reader, forked
):
    """And the output."""
    done = forked(*arguments, stderr=gone_reader)
    assert done.returncode == status
    assert bool(done.stdout) is not bool(status)


def test_result_that_cannot_be_written_goes_to_standard_error(forked):
    """After a sentence that says so: what a command has measured is not lost."""
    with Path("/dev/full").open("w") as full:
        done = forked("route", "a", "--json", stdout=full)
        table = forked("route", "a", stdout=full)
    assert done.returncode == table.returncode == ExitCode.FAILED
    sentence, result = done.stderr.split(b"\n", 1)
    assert sentence.startswith(b"error: standard output cannot be written: No space left")
    assert json.loads(result)["source"] == "on_device"
    assert b"on_device" in table.stderr


def test_unreadable_standard_input_is_named(tmp_path, forked):
    """Not only what the system calls it."""
    with (tmp_path / "file").open("w") as written:
        done = forked("route", stdin=written)
    assert done.returncode == ExitCode.INVALID
    assert done.stderr.startswith(b"error: standard input cannot be read (")


@pytest.mark.parametrize("arguments", [("route", "-n", "0", "a"), ("route", "--no-such")])
def test_full_standard_error_keeps_the_exit_status(arguments, forked):
    """Of an error of ours, and of Typer's."""
    with Path("/dev/full").open("w") as full:
        assert forked(*arguments, stderr=full).returncode == ExitCode.INVALID


@pytest.mark.parametrize("columns", ["0", "²"])
def test_impossible_width_is_ignored(columns):
    """Nothing would be printed otherwise, not even errors."""
    done = run("route", "a", COLUMNS=columns, LINES=columns)
    assert b"on_device" in done.stdout


SLOW_IMPORT = """
import os, signal, sys
class Interrupted:
    def find_spec(self, name, *_):
        if name == "numpy":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupted())
from edgewise_command import main
main()
"""
AT_EXIT = """
import os, signal, sys, threading
ended = threading.Event()
def interrupt():
    for _ in range(3):
        os.kill(os.getpid(), signal.SIGINT)
        ended.wait(0.05)
threading.Thread(target=lambda: (threading.main_thread().join(), interrupt())).start()
from edgewise_command import main
main()
"""


@pytest.mark.parametrize("script", [SLOW_IMPORT, AT_EXIT])
def test_ctrl_c_outside_of_the_command_ends_quietly(script):
    """While Python imports, and again and again while it exits."""
    done = run("route", "a", start=[sys.executable, "-c", script])
    assert done.stderr == b""
    assert done.returncode == ExitCode.INTERRUPTED
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
