"""`edgewise-cloud`, as a process where that matters."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.support.command_line import BIN, RunCommand, run


def test_convert_makes_a_model_that_generates(checkpoint: Path, tmp_path: Path) -> None:
    """From a Hugging Face folder to text, with a report of how well both models agree."""
    out = tmp_path / "device"
    done = run("convert", checkpoint, out, "--quantize", "int8", command="edgewise-cloud")
    assert done.returncode == 0, done.stderr
    assert "largest logit difference" in done.stdout
    assert "top-1" in done.stdout
    generated = run("generate", "the", "--model", out, "--max-tokens", "5", "--json")
    assert len(json.loads(generated.stdout)["token_ids"]) == 5


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["convert", "no-such", "OUT"], "no GPT-2 preset"),
        (["convert", "[/x]", "OUT"], "'[/x]'"),
        (["convert", "tales", "."], "exists already"),
        (["convert", "tales", "OUT", "--quantize", "int3"], "int8"),
        (["train", "--text", "none.txt", "--out", "OUT"], "cannot be read"),
    ],
)
def test_errors_are_one_sentence(
    run_command: RunCommand,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    words: str,
) -> None:
    """Unknown checkpoints, invalid options, files that are not there."""
    monkeypatch.chdir(tmp_path)
    done = run_command(*arguments)
    assert done.returncode == 2, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["--model", "no-such"], "no GPT-2 preset"), (["--host", "0.0.0.0"], "loopback")],
)
def test_serve_that_cannot_start_says_why(arguments: list[str], words: str) -> None:
    """An unknown model, a public address."""
    done = run("serve", "--port", "0", *arguments, command="edgewise-cloud")
    assert done.returncode == 2, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_serve_prints_its_address_and_drains_on_sigterm(exact_folder: Path) -> None:
    """And exits with status 0."""
    process = subprocess.Popen(
        [BIN / "edgewise-cloud", "serve", "--model", exact_folder, "--port", "0", "--slots", "1"],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    line = process.stderr.readline()
    process.send_signal(signal.SIGTERM)
    _, rest = process.communicate()
    assert "serving exact on 127.0.0.1:" in line
    assert process.returncode == 0
    assert rest.endswith("INFO draining\n")
    assert rest.count("\n") == 1
