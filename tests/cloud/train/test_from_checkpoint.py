"""Training on from a checkpoint, with the optimizer and the phases of a training from scratch."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from edgewise_cloud.errors import CheckpointError, TextError, TrainingError
from edgewise_cloud.keras_models.generation_config import read_sampling, save_sampling
from edgewise_cloud.train.data import RandomRows
from edgewise_cloud.train.pretrain import pretrain
from tests.cloud.train.conftest import (
    SCHEDULE,
    SIZE,
    Trained,
    files,
    interrupted_after_a_round,
    weights,
)
from tests.conftest import write_checkpoint
from tests.support.command_line import RunCommand

pytestmark = pytest.mark.usefixtures("uncompiled")


def silent(_line: str) -> None:
    """Report nothing."""


def test_it_begins_with_the_checkpoints_weights_and_vocabulary(text: Path, tmp_path: Path) -> None:
    """At a learning rate of zero nothing changes, and what the model recommends is kept."""
    begun = tmp_path / "begun"
    write_checkpoint(begun)
    save_sampling({"temperature": 0.5}, begun)
    still = replace(SCHEDULE, learning_rate=0.0, steps=1)
    pretrain([text], tmp_path / "out", SIZE, still, checkpoint=str(begun), report=silent)
    before, after = (
        load_file(folder / "model.safetensors") for folder in (begun, tmp_path / "out")
    )
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        np.testing.assert_array_equal(tensor.astype(np.float16), after[name])
    ids, known = (
        json.loads((folder / "vocab.json").read_text()) for folder in (begun, tmp_path / "out")
    )
    assert ids == known
    assert read_sampling(tmp_path / "out") == {"temperature": 0.5}


def test_a_resumed_training_ends_with_the_same_weights(text: Path, tmp_path: Path) -> None:
    """In two phases and with dropout, interrupted in the middle, as one that was not interrupted."""
    begun = write_checkpoint(tmp_path / "begun")
    schedule = replace(SCHEDULE, then_share=0.5)
    arguments = {"then": [text], "checkpoint": str(begun), "report": silent}
    pretrain([text], tmp_path / "whole", SIZE, schedule, **arguments)
    with interrupted_after_a_round(tmp_path / "parts"):
        pretrain([text], tmp_path / "parts", SIZE, schedule, **arguments)
    pretrain([text], tmp_path / "parts", SIZE, schedule, resume=True, **arguments)
    assert weights(tmp_path / "parts") == weights(tmp_path / "whole") != weights(begun)


def test_a_resumed_training_keeps_its_vocabulary(text: Path, tmp_path: Path) -> None:
    """Where the checkpoint's name has come to stand for a model with another one, as after an update."""
    begun = write_checkpoint(tmp_path / "begun")
    arguments = {"checkpoint": str(begun), "report": silent}
    pretrain([text], tmp_path / "whole", SIZE, SCHEDULE, **arguments)
    with interrupted_after_a_round(tmp_path / "parts"):
        pretrain([text], tmp_path / "parts", SIZE, SCHEDULE, **arguments)
    ids = json.loads((begun / "vocab.json").read_text())
    (begun / "vocab.json").write_text(json.dumps(ids | {"e": ids["a"], "a": ids["e"]}))
    pretrain([text], tmp_path / "parts", SIZE, SCHEDULE, resume=True, **arguments)
    for name in ("model.safetensors", "vocab.json"):
        made, whole = ((tmp_path / folder / name).read_bytes() for folder in ("parts", "whole"))
        assert made == whole


def test_the_command_reads_full_windows_from_the_first_step(
    text: Path, tmp_path: Path, run_command: RunCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In both phases; 300 tokens, as the command's rows for a new model have 256."""
    begun = write_checkpoint(tmp_path / "begun", context_window=300)
    lengths = list[int]()

    def remember(rows: RandomRows, tokens: np.ndarray, row: int, *shape: int) -> None:
        if len(shape) == 4:  # training, not a preview
            lengths.append(row)
        original(rows, tokens, row, *shape)

    original = RandomRows.__init__
    monkeypatch.setattr(RandomRows, "__init__", remember)
    options = ("--text", text, "--steps", "20", "--batch-tokens", "300", "--held-out", "0.1")
    phases = ("--then", text, "--then-share", "0.5")
    done = run_command("train", "-c", begun, "--out", tmp_path / "on", *options, *phases)
    assert (done.returncode, lengths) == (0, [300, 300])


def test_resuming_from_another_checkpoint_is_refused(trained: Trained, text: Path) -> None:
    """The plan names it; a training from scratch has sizes instead."""
    with pytest.raises(TrainingError, match="checkpoint was None, is tales"):
        pretrain([text], trained.folder, SIZE, SCHEDULE, checkpoint="tales", resume=True)


@pytest.mark.parametrize(
    ("checkpoint", "words", "error", "message"),
    [
        ("no-such-model", None, CheckpointError, "no-such-model"),
        ("tales", "too short", TextError, "the text is too short"),
    ],
)
def test_what_cannot_be_trained_on_leaves_nothing(
    text: Path,
    tmp_path: Path,
    checkpoint: str,
    words: str | None,
    error: type[Exception],
    message: str,
) -> None:
    """A checkpoint that is none, and a text too short for a row."""
    if words:
        text = tmp_path / "short.txt"
        text.write_text(words)
    before = files(tmp_path)
    with pytest.raises(error, match=message):
        pretrain([text], tmp_path / "out", SIZE, SCHEDULE, checkpoint=checkpoint, report=silent)
    assert files(tmp_path) == before
    assert not (tmp_path / "out").exists()
