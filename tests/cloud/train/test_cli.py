"""`edgewise-cloud train` and `finetune` as a user meets them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from edgewise_cloud import cli
from edgewise_cloud.corpus import read_corpus
from tests.cloud.conftest import STORIES
from tests.conftest import write_checkpoint

BIN = Path(sys.executable).parent
TINY = ("--vocabulary-size=300", "--layers=1", "--width=16", "--heads=2", "--context-window=16")
BRIEF = ("--steps=1", "--batch-tokens=64", "--held-out=0.1")


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three files of one document each."""
    folder = tmp_path_factory.mktemp("texts")
    for index, name in enumerate(("a.txt", "b.txt", "c.txt")):
        (folder / name).write_text("\n".join(STORIES[index::3]), encoding="utf-8")
    return sorted(folder.iterdir())


def refused(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """What a command says that ends with status 2."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["edgewise-cloud", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
    said = capsys.readouterr()
    assert ended.value.code == 2
    assert said.out == ""
    return said.err


def test_train_takes_the_files_of_a_pattern(texts: list[Path], tmp_path: Path) -> None:
    """The shell hands over all three names, and the model is made of all three."""
    command = [BIN / "edgewise-cloud", "train", "--text", *texts, "--out", tmp_path, *TINY, *BRIEF]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "model.safetensors").exists()
    plan = json.loads((tmp_path / "training" / "plan.json").read_text())
    assert plan["text"] == read_corpus(texts, 0.1, 1).fingerprint
    tokens, step, loss, sample = done.stderr.splitlines()
    assert "tokens to train on" in tokens
    assert step.startswith("step 1/1 · loss ")
    assert "bits per byte" in loss
    assert sample.strip().startswith("Once upon")


def test_finetune_takes_them_too(
    texts: list[Path],
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With its own options, and a checkpoint comes out."""
    arguments = ["--preset", checkpoint, "--out", tmp_path, "--lora", "2", "--bfloat16", *BRIEF]
    monkeypatch.setattr(
        sys, "argv", ["edgewise-cloud", "finetune", *map(str, [*arguments, "--text", *texts])]
    )
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0
    assert "step 1/1 · loss " in capsys.readouterr().err
    assert (tmp_path / "model.safetensors").exists()
    plan = json.loads((tmp_path / "training" / "plan.json").read_text())
    assert plan["text"] == read_corpus(texts, 0.1, 1).fingerprint
    assert plan["lora_rank"] == 2


def test_train_refuses_in_a_sentence(
    texts: list[Path], checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Texts, folders and sizes that cannot be: one line each, and how to go on."""
    latin = tmp_path / "[latin].txt"
    latin.write_bytes("naïve".encode("latin-1"))
    out = ("--out", tmp_path / "out")
    cases = {
        (*out, "--text", tmp_path / "none.txt"): "cannot be read: No such file",
        (*out, "--text", texts[0], latin): "[latin].txt is not UTF-8 (byte 2); convert it first",
        (*out, "--text", *texts): "give more text or a smaller --vocabulary-size",
        (*out, "--text", *texts, "--heads", "7"): "a width of 256 cannot be shared by 7 heads",
        ("--out", checkpoint, "--text", *texts): "is not empty; give a new folder",
        ("--out", texts[0], "--text", *texts): "a.txt cannot be written to: Not a directory",
    }
    for arguments, words in cases.items():
        line, rest = refused(capsys, "train", *arguments).split("\n", 1)
        assert line.startswith("error: "), arguments
        assert words in line
        assert rest == ""


def test_finetune_refuses_in_a_sentence(
    texts: list[Path], checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Models that cannot be had or read: one line each."""
    bare, other = (write_checkpoint(tmp_path / name) for name in ("bare", "other"))
    (bare / "model.safetensors").unlink()
    (other / "config.json").write_text('{"model_type": "llama"}')
    cases = {
        "no-such": "no GPT-2 preset",
        str(bare): "cannot be read",
        str(other): "'llama' model; only GPT-2 is supported",
    }
    for preset, words in cases.items():
        arguments = ("--preset", preset, "--out", tmp_path / "out", "--text", *texts)
        line, rest = refused(capsys, "finetune", *arguments).split("\n", 1)
        assert line.startswith("error: "), preset
        assert words in line
        assert rest == ""


def test_options_out_of_range_are_refused(
    texts: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the command line itself."""
    for option, value in {"--steps": "0", "--held-out": "0.6", "--lora": "0"}.items():
        arguments = ("--preset", "tales", "--out", tmp_path, "--text", *texts, option, value)
        assert f"Invalid value for '{option}'" in refused(capsys, "finetune", *arguments)
