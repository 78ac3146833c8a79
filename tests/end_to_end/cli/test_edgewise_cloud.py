"""`edgewise-cloud`, as a process where that matters."""

import json
from pathlib import Path

import pytest

from tests.support.command_line import RunCommand, run


def test_convert_makes_a_model_that_generates(
    checkpoint: Path, tmp_path: Path, run_command: RunCommand
) -> None:
    """From a Hugging Face folder to text, with a report of how well both models agree."""
    out = tmp_path / "device"
    done = run_command("convert", checkpoint, out, "--quantize", "int8")
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
