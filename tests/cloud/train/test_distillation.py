"""Fine-tuning with a teacher, and with fewer layers."""

import json
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from keras_hub.models import GPT2Backbone
from safetensors.numpy import load_file

from edgewise_cloud.errors import CheckpointError, TrainingError
from edgewise_cloud.keras_models.load import load_keras
from edgewise_cloud.train.distillation import divergence
from edgewise_cloud.train.finetune import finetune
from edgewise_cloud.train.loop import compiled
from edgewise_cloud.train.optimizers import adamw
from edgewise_cloud.train.schedule import Schedule
from tests.cloud.conftest import STORIES
from tests.cloud.train.conftest import interrupted_after_a_round
from tests.conftest import LAYERS, write_checkpoint

SCHEDULE = Schedule(
    steps=4, learning_rate=1e-2, batch_tokens=256, row=32, held_out=0.1, round_steps=2
)

pytestmark = pytest.mark.usefixtures("uncompiled")


def silent(_line: str) -> None:
    """Report nothing."""


def predictions(folder: Path, workspace: Path) -> np.ndarray:
    """Log-probabilities (tokens, vocabulary) after each of a few tokens."""
    backbone = load_keras(str(folder), workspace).backbone
    ids = np.arange(100, 140, dtype=np.int32)[None]
    hidden = backbone({"token_ids": ids, "padding_mask": np.ones_like(ids)})
    logits = backbone.token_embedding(hidden, reverse=True)
    return np.asarray(keras.ops.log_softmax(logits))[0]


def mean_divergence(expected: np.ndarray, found: np.ndarray) -> float:
    """Of `found` from `expected`, in nats per token."""
    return float((np.exp(expected) * (expected - found)).sum(-1).mean())


@pytest.fixture(scope="module")
def teacher(checkpoint: Path, uncompiled: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model, tuned on another text, of capital letters, for longer."""
    folder = tmp_path_factory.mktemp("teacher")
    text = folder / "capitals.txt"
    text.write_text("<|endoftext|>".join(story.upper() for story in STORIES), encoding="utf-8")
    longer = replace(SCHEDULE, steps=12)
    finetune(str(checkpoint), [text], folder / "model", longer, report=silent)
    return folder / "model"


def test_a_student_comes_closer_to_its_teacher(
    checkpoint: Path, teacher: Path, text: Path, tmp_path: Path
) -> None:
    """Than without one, in as many steps on the same text."""
    for name, taught_by in (("taught", str(teacher)), ("alone", None)):
        finetune(
            str(checkpoint), [text], tmp_path / name, SCHEDULE, teacher=taught_by, report=silent
        )
    expected, taught, alone = (
        predictions(folder, tmp_path)
        for folder in (teacher, tmp_path / "taught", tmp_path / "alone")
    )
    assert mean_divergence(expected, taught) < mean_divergence(expected, alone)


def test_a_teacher_is_not_trained(checkpoint: Path, teacher: Path, tmp_path: Path) -> None:
    """A step changes the student's weights alone, also of a teacher with rows that no token has."""
    student, padded = (load_keras(str(checkpoint), tmp_path).backbone for _ in range(2))
    taught_by = GPT2Backbone.from_config(
        padded.get_config() | {"vocabulary_size": padded.vocabulary_size + 8}
    )
    before = taught_by.get_weights(), student.get_weights()
    model = compiled(student, adamw(SCHEDULE), taught_by, bfloat16=False)
    ids = np.arange(64, dtype=np.int32).reshape(2, 32)
    model.train_on_batch({"token_ids": ids, "padding_mask": np.ones_like(ids)}, ids)
    for old, new in zip(before[0], taught_by.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert not np.array_equal(before[1][0], student.get_weights()[0])


def test_divergence_has_a_gradient_where_the_student_is_wrong() -> None:
    """It is the Kullback-Leibler divergence, also where a probability is below float32's epsilon."""
    teacher, student = np.float32([[[10, 0, 0]]]), np.float32([[[-20, 0, 0]]])
    lower = np.float32([[[-19, 0, 0]]])
    expected, found = (
        logits - np.log(np.exp(logits).sum(-1, keepdims=True)) for logits in (teacher, student)
    )
    by_hand = (np.exp(expected) * (expected - found)).sum()
    assert float(divergence(teacher, student)) == pytest.approx(by_hand, rel=1e-5)
    assert float(divergence(teacher, lower)) == pytest.approx(by_hand - 1, abs=0.01)
    assert float(divergence(teacher, teacher)) == pytest.approx(0, abs=1e-6)


def test_a_teacher_is_not_saved_with_a_checkpoint(
    checkpoint: Path, teacher: Path, text: Path, tmp_path: Path
) -> None:
    """As many arrays as without one."""
    once = replace(SCHEDULE, steps=2)
    counts = []
    for name, taught_by in (("taught", str(teacher)), ("alone", None)):
        finetune(str(checkpoint), [text], tmp_path / name, once, teacher=taught_by, report=silent)
        with np.load(tmp_path / name / "training" / "state.npz") as arrays:
            counts.append(len(arrays))
    assert counts[0] == counts[1]


def test_a_resumed_distillation_ends_with_the_same_weights(
    checkpoint: Path, teacher: Path, text: Path, tmp_path: Path
) -> None:
    """With fewer layers than the teacher's, interrupted in the middle."""

    def tune(name: str, **options: bool) -> bytes:
        finetune(
            str(checkpoint),
            [text],
            tmp_path / name,
            SCHEDULE,
            layers=1,
            teacher=str(teacher),
            report=silent,
            **options,
        )
        return (tmp_path / name / "model.safetensors").read_bytes()

    with interrupted_after_a_round(tmp_path / "parts"):
        tune("parts")
    assert tune("parts", resume=True) == tune("whole")
    plan = json.loads((tmp_path / "whole" / "training" / "plan.json").read_text())
    assert (plan["layers"], plan["teacher"]) == (1, str(teacher))


def test_the_layers_that_are_kept_are_the_checkpoints(text: Path, tmp_path: Path) -> None:
    """Evenly spaced from the first one to the last; all other weights too."""
    still = replace(SCHEDULE, steps=1, learning_rate=0.0)
    deep = write_checkpoint(tmp_path / "deep", layers=4)
    finetune(str(deep), [text], tmp_path / "out", still, layers=2, report=silent)
    before, after = (load_file(folder / "model.safetensors") for folder in (deep, tmp_path / "out"))
    assert json.loads((tmp_path / "out" / "config.json").read_text())["n_layer"] == 2
    renamed = {name.replace("h.1.", "h.3."): tensor for name, tensor in after.items()}
    assert renamed.keys() == {name for name in before if not name.startswith(("h.1.", "h.2."))}
    for name, tensor in renamed.items():
        np.testing.assert_array_equal(tensor, before[name])


def test_more_layers_than_there_are_is_refused(
    checkpoint: Path, text: Path, tmp_path: Path
) -> None:
    """The message says how many there are, and nothing is written."""
    with pytest.raises(TrainingError, match=f"the checkpoint has {LAYERS}, give at most"):
        finetune(str(checkpoint), [text], tmp_path / "out", SCHEDULE, layers=9, report=silent)
    assert not (tmp_path / "out").exists()


def test_a_teacher_that_cannot_teach_is_refused(
    checkpoint: Path, text: Path, tmp_path: Path
) -> None:
    """For another vocabulary, a shorter context window, or none; nothing is written."""
    short = write_checkpoint(tmp_path / "short", context_window=16)
    cases = {
        "no-such": (CheckpointError, "no GPT-2 preset"),
        "tales": (TrainingError, "whose vocabulary is not that of tiny"),
        str(short): (TrainingError, "context window of 16"),
    }
    for teacher, (error, message) in cases.items():
        with pytest.raises(error, match=message):
            finetune(
                str(checkpoint), [text], tmp_path / "out", SCHEDULE, teacher=teacher, report=silent
            )
        assert not (tmp_path / "out").exists()


def test_resuming_with_another_teacher_is_refused(
    checkpoint: Path, teacher: Path, text: Path, tmp_path: Path
) -> None:
    """As with none."""
    once = replace(SCHEDULE, steps=1)
    finetune(str(checkpoint), [text], tmp_path, once, teacher=str(teacher), report=silent)
    with pytest.raises(TrainingError, match=r"teacher was .*model, is None; give"):
        finetune(str(checkpoint), [text], tmp_path, once, resume=True, report=silent)


def test_the_held_out_loss_is_the_texts_alone(
    checkpoint: Path, teacher: Path, tmp_path: Path
) -> None:
    """With a teacher as without one; the loss of training is not."""
    student, other = (load_keras(str(path), tmp_path).backbone for path in (checkpoint, teacher))
    ids = np.arange(64, dtype=np.int32).reshape(2, 32)
    row = {"token_ids": ids, "padding_mask": np.ones_like(ids)}
    still = replace(SCHEDULE, learning_rate=0.0)
    taught, alone = (compiled(student, adamw(still), by, bfloat16=False) for by in (other, None))
    assert taught.evaluate(row, ids, verbose=0) == alone.evaluate(row, ids, verbose=0)
    assert taught.train_on_batch(row, ids) != alone.train_on_batch(row, ids)
