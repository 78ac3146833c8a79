"""`edgewise-cloud train` and `edgewise-cloud finetune`."""

import json
import shutil
from pathlib import Path

import pytest

from edgewise_cloud.corpus import read_corpus
from edgewise_cloud.keras_models.generation_config import read_sampling, save_sampling
from tests.cloud.conftest import STORIES
from tests.conftest import write_checkpoint
from tests.support.command_line import RunCommand

TINY = ("--vocabulary-size=300", "--layers=1", "--width=16", "--heads=2", "--context-window=16")
BRIEF = ("--steps=1", "--batch-tokens=64", "--held-out=0.1")


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three files of one document each."""
    folder = tmp_path_factory.mktemp("texts")
    for index, name in enumerate(("a.txt", "b.txt", "c.txt")):
        (folder / name).write_text("\n".join(STORIES[index::3]), encoding="utf-8")
    return sorted(folder.iterdir())


def assert_refused(run_command: RunCommand, *arguments: str | Path, message: str) -> None:
    """The command's last line has `message`, and it exits with status 2."""
    done = run_command(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    line = done.stderr.splitlines()[-1]
    assert line.startswith("error: ")
    assert message in line


def test_train_takes_the_files_of_a_pattern(
    texts: list[Path], tmp_path: Path, run_command: RunCommand
) -> None:
    """The shell expands --text *.txt to three names; all three are read."""
    done = run_command("train", "--text", *texts, "--out", tmp_path, *TINY, *BRIEF)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "model.safetensors").exists()
    plan = json.loads((tmp_path / "training" / "plan.json").read_text())
    assert plan["text"] == read_corpus(texts, 0.1, 1).fingerprint
    said = (
        "reading the text",
        "tokens to train on",
        "compiling",
        "step 1/1 · loss ",
        "bits per byte",
        "Once upon",
        "saved to",
        "edgewise-cloud convert",
    )
    found = [done.stderr.index(words) for words in said]
    assert found == sorted(found)


def test_then_takes_the_files_of_a_pattern(
    texts: list[Path], tmp_path: Path, run_command: RunCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever it stands, and none of them becomes a file of --text."""
    given = []
    monkeypatch.setattr(
        "edgewise_cloud.train.pretrain.pretrain",
        lambda text, *_, then, **__: given.append((text, list(then))),
    )
    first, *then = texts
    share = ("--then-share", "0.5", "--out", tmp_path)
    run_command("train", "--text", first, "--then", *then, *share)
    run_command("train", f"--then={then[0]}", then[1], *share, "--text", first)
    run_command("train", "--then", then[0], "--text", first, first, "--then", then[1], *share)
    assert given == [([first], then), ([first], then), ([first, first], then)]


def test_finetune_takes_the_files_of_a_pattern(
    texts: list[Path], checkpoint: Path, tmp_path: Path, run_command: RunCommand
) -> None:
    """With LoRA, a teacher and bfloat16; the result is a checkpoint with the same recommended sampling."""
    source = Path(shutil.copytree(checkpoint, tmp_path / "source"))
    save_sampling({"temperature": 0.5, "top_k": 7}, source)
    out = tmp_path / "out"
    options = ("--checkpoint", source, "--out", out, "--lora", "2", "--bfloat16", *BRIEF)
    options += ("--layers", "1", "--teacher", checkpoint)
    done = run_command("finetune", *options, "--text", *texts)
    assert done.returncode == 0
    assert "step 1/1 · loss " in done.stderr
    assert (out / "model.safetensors").exists()
    assert read_sampling(out) == {"temperature": 0.5, "top_k": 7}
    plan = json.loads((out / "training" / "plan.json").read_text())
    assert plan["text"] == read_corpus(texts, 0.1, 1).fingerprint
    assert (plan["lora_rank"], plan["layers"], plan["teacher"]) == (2, 1, str(checkpoint))


def test_train_reports_an_error_in_one_line(
    texts: list[Path], checkpoint: Path, tmp_path: Path, run_command: RunCommand
) -> None:
    """For texts, folders and sizes that cannot be used; it says what to do."""
    latin = tmp_path / "[latin].txt"
    latin.write_bytes("naïve".encode("latin-1"))
    out = ("--out", tmp_path / "out")
    cases = {
        (*out, "--text", tmp_path / "none.txt"): "cannot be read: No such file",
        (*out, "--text", texts[0], latin): "[latin].txt is not UTF-8 (byte 2); convert it first",
        (*out, "--text", *texts): "give more text or a smaller --vocabulary-size",
        (*out, "--text", texts[0], "--then", *texts[1:]): "--then is given without --then-share",
        (*out, "--text", *texts, "--then-share", "0.2"): "--then-share is 0.2 without --then",
        (*out, "--text", *texts, "--heads", "7"): "a width of 256 is not divisible by 7 heads",
        (*out, "--text", *texts, "-c", "no-such"): "no GPT-2 preset",
        (
            *out,
            "--text",
            *texts,
            "-c",
            "tales",
            "--width",
            "256",
        ): "--width is 256, but a model of --che",
        ("--out", checkpoint, "--text", *texts): "is not empty; give a new folder",
        ("--out", texts[0], "--text", *texts): "a.txt cannot be written to: Not a directory",
    }
    for arguments, message in cases.items():
        assert_refused(run_command, "train", *arguments, message=message)


def test_finetune_reports_an_error_in_one_line(
    texts: list[Path], checkpoint: Path, tmp_path: Path, run_command: RunCommand
) -> None:
    """For checkpoints that cannot be found or read."""
    bare, other = (write_checkpoint(tmp_path / name) for name in ("bare", "other"))
    (bare / "model.safetensors").unlink()
    (other / "config.json").write_text('{"model_type": "llama"}')
    cases = {
        "no-such": "no GPT-2 preset",
        str(bare): "has no model.safetensors",
        str(other): "model_type is 'llama'",
    }
    for preset, message in cases.items():
        # By the option's former name, which is still accepted.
        arguments = ("--preset", preset, "--out", tmp_path / "out", "--text", *texts)
        assert_refused(run_command, "finetune", *arguments, message=message)


def test_options_out_of_range_are_refused(
    texts: list[Path], tmp_path: Path, run_command: RunCommand
) -> None:
    """The message names the option."""
    for option, value in {"--steps": "0", "--held-out": "0.6", "--lora": "0"}.items():
        arguments = ("--checkpoint", "tales", "--out", tmp_path, "--text", *texts, option, value)
        done = run_command("finetune", *arguments)
        assert done.returncode == 2
        assert f"Invalid value for '{option}'" in done.stderr
