"""`edgewise-cloud load`."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cloud.loadtest.fake_service import FakeService, fake_in_thread
from tests.support.command_line import RunCommand

COMMAND = Path(sys.executable).with_name("edgewise-cloud")


@pytest.fixture(scope="module")
def target() -> Iterator[str]:
    """HOST:PORT of a fake service."""
    with fake_in_thread(FakeService(token_time=0.001)) as address:
        yield address


def command(*options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, "load", *options],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=os.environ | environment,
    )


def short_options(target: str) -> list[str]:
    return f"--target {target} --prompt-tokens 6-12 --max-tokens 10 --streams 2".split()


def test_the_command_prints_one_line_of_json(target: str, tmp_path: Path) -> None:
    """On standard output; the table goes to standard error, each request to a file."""
    path = tmp_path / "records.jsonl"
    done = command(*short_options(target), "--requests", "5", "--json", str(path))
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    result = json.loads(line)
    assert result["target"] == target
    assert (result["model"], result["loop"], result["rate"]) == ("fake", "closed", None)
    assert (result["requests"], result["completed"], result["generated_tokens"]) == (5, 5, 50)
    assert {"p50", "p90", "p99", "max"} == result["gap"].keys()
    assert result["client_cpu"] > 0
    assert "gap between tokens" in done.stderr
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert sorted(each["number"] for each in records) == list(range(5))
    assert all(len(each["arrivals"]) == 10 for each in records)


def test_a_terminal_shows_a_live_table(target: str) -> None:
    """While the test runs."""
    done = command(
        *short_options(target), "--duration", "1500ms", "--rate", "10", TTY_COMPATIBLE="1"
    )
    assert done.returncode == 0, done.stderr
    assert "the last 5 s" in done.stderr
    assert json.loads(done.stdout)["loop"] == "open"


def test_ctrl_c_prints_what_was_measured(target: str) -> None:
    """And exits with 130."""
    process = subprocess.Popen(
        [COMMAND, "load", *short_options(target), "--duration", "100s"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"TTY_COMPATIBLE": "1"},
    )
    for line in process.stderr:
        if "the last 5 s" in line:
            break
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors
    result = json.loads(output)
    assert result["requests"] > 0
    assert result["seconds"] < 100


def test_an_unreachable_service_is_an_error_in_one_line() -> None:
    """With status 4, and without gRPC's own log, in a process that has not imported gRPC yet."""
    done = command("--target", "127.0.0.1:1", "--wait", "1.5", COLUMNS="400")
    assert (done.returncode, done.stdout) == (4, "")
    (line,) = done.stderr.splitlines()
    assert "nothing answers at 127.0.0.1:1 within 1.5 s (" in line


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--target", "nowhere"], "HOST:PORT"),
        (["--target", "127.0.0.1:1", "--duration", "soon"], "'soon' is no duration"),
        (["--target", "127.0.0.1:1", "--duration", "5s", "--requests", "5"], "one of them"),
        (["--target", "127.0.0.1:1", "--max-tokens", "few"], "no number of tokens"),
        (["--target", "127.0.0.1:1", "--json", "/nowhere/at/all"], "cannot write"),
        (["--target", "127.0.0.1:1", "--cloud-key", "/none"], "give both"),
        (["--target", "127.0.0.1:1", "--cloud-ca", "/none"], "cannot read /none"),
        (["--target", "127.0.0.1:1", "--cloud-ca", __file__], "no certificate in PEM"),
        (["--target", "127.0.0.1:1", "--cloud-token-file", "/dev/null"], "token is empty"),
        (["--target", "192.0.2.1:1"], "not encrypted; add --cloud-ca"),
    ],
)
def test_an_invalid_option_is_an_error_in_one_line(
    options: list[str], message: str, run_command: RunCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With exit status 2."""
    monkeypatch.setenv("GRPC_VERBOSITY", "ERROR")  # as the command sets it, for this process
    monkeypatch.setenv("EDGEWISE_CLOUD_TOKEN", "secret")
    done = run_command("load", *options)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert message in line


def test_it_does_not_import_tensorflow() -> None:
    """It may run on a small machine; nor does the command line itself."""
    code = (
        "import sys\n"
        "import edgewise_cloud.loadtest.generator, edgewise_cloud.loadtest.table\n"
        "import edgewise_cloud.cli\n"
        "print(*{name.split('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"tensorflow", "keras", "keras_hub", "jax"} & set(done.stdout.split())
