"""Checkpoints of a training, with a model of two layers."""

import errno
import json
import os
from pathlib import Path

import keras
import numpy as np
import pytest

from edgewise_cloud.errors import TrainingError
from edgewise_cloud.train.resume import STATE_FILE, STATE_FOLDER, TrainingState
from tests.cloud.conftest import FullDisk

PLAN = {"text": "abc", "schedule": {"steps": 4, "seed": 1}, "size": {"layers": 1}}


def tiny(seed: int) -> keras.Model:
    keras.utils.set_random_seed(seed)
    layers = [keras.Input((3,)), keras.layers.Dense(40), keras.layers.Dropout(0.5)]
    model = keras.Sequential([*layers, keras.layers.Dense(40)])
    model.layers[0].enable_lora(2)
    model.compile(optimizer=keras.optimizers.AdamW(0.1), loss="mse", run_eagerly=True)
    return model


def learn(model: keras.Model) -> None:
    model.train_on_batch(np.ones((2, 3)), np.zeros((2, 40)))


def numbers(model: keras.Model) -> list[np.ndarray]:
    return [np.asarray(variable).copy() for variable in model.weights]


def test_a_restored_model_trains_like_the_saved_one(tmp_path: Path) -> None:
    """With the same dropout and momentum, and its LoRA not merged."""
    state = TrainingState.open(tmp_path, PLAN, resume=False)
    saved, restored = tiny(seed=1), tiny(seed=2)
    assert state.restore(restored) == 0
    learn(saved)
    state.save(saved)
    assert TrainingState.open(tmp_path, PLAN, resume=True).restore(restored) == 1
    for model in (saved, restored):
        learn(model)
    for one, other in zip(numbers(saved), numbers(restored), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_full_disk_leaves_the_last_checkpoint_intact(tmp_path: Path, full_disk: FullDisk) -> None:
    """And no partial file."""
    state = TrainingState.open(tmp_path, PLAN, resume=False)
    model = tiny(seed=1)
    learn(model)
    state.save(model)
    before = numbers(model)
    learn(model)
    with full_disk(4096), pytest.raises(TrainingError, match="--resume continues"):
        state.save(model)
    assert {path.name for path in state.folder.iterdir()} == {"plan.json", STATE_FILE}
    restored = tiny(seed=2)
    assert state.restore(restored) == 1
    for one, other in zip(before, numbers(restored), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("size", [0, 10, 1000])
def test_a_damaged_checkpoint_is_an_error(tmp_path: Path, size: int) -> None:
    """Here it is truncated."""
    state = TrainingState.open(tmp_path, PLAN, resume=False)
    model = tiny(seed=1)
    learn(model)
    state.save(model)
    path = tmp_path / STATE_FOLDER / STATE_FILE
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(TrainingError, match=r"state\.npz is damaged; remove"):
        state.restore(tiny(seed=1))


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    """Another version of KerasHub may give a model other weights; nobody is told to remove them."""
    state = TrainingState.open(tmp_path, PLAN, resume=False)
    model = tiny(seed=1)
    learn(model)
    state.save(model)
    other = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    other.compile(optimizer="adamw", loss="mse")
    with pytest.raises(TrainingError, match="does not fit the model: the checkpoint"):
        state.restore(other)


def test_another_plan_is_refused(tmp_path: Path) -> None:
    """The message names differences at any depth, and settings that only one plan has."""
    state = TrainingState.open(tmp_path, PLAN, resume=False)
    model = tiny(seed=1)
    learn(model)
    state.save(model)
    other = json.loads(json.dumps(PLAN)) | {"preset": "gpt2"}
    other["schedule"]["steps"] = 5
    with pytest.raises(TrainingError, match="plan: steps was 4, is 5, preset was None, is gpt2;"):
        TrainingState.open(tmp_path, other, resume=True)


def test_resuming_without_a_checkpoint_starts_a_training(tmp_path: Path) -> None:
    """The same command line works for both."""
    state = TrainingState.open(tmp_path / "new", PLAN, resume=True)
    assert not state.saved
    assert not state.folder.exists()
    state.make_folder()
    assert TrainingState.open(tmp_path / "new", PLAN, resume=False) == state


def test_a_damaged_plan_is_an_error(tmp_path: Path) -> None:
    """It is unknown what the weights were trained on."""
    state = TrainingState.open(tmp_path, PLAN, resume=False)
    state.make_folder()
    (state.folder / STATE_FILE).write_bytes(b"weights")
    for content in (None, "garbage", "7"):
        if content is not None:
            (state.folder / "plan.json").write_text(content)
        with pytest.raises(TrainingError, match=r"plan\.json is damaged; remove"):
            TrainingState.open(tmp_path, PLAN, resume=True)


def test_a_checkpoint_that_cannot_be_read_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be whole: nobody is told to remove it."""
    state = TrainingState.open(tmp_path, PLAN, resume=False)
    model = tiny(seed=1)
    learn(model)
    state.save(model)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(np, "load", refuse)
    with pytest.raises(TrainingError, match=r"state\.npz cannot be read: Permission denied$"):
        state.restore(model)


def test_only_one_process_trains_in_a_folder(tmp_path: Path) -> None:
    """Two would write each other's checkpoints; when the first one has ended, another may begin."""
    state = TrainingState.open(tmp_path, PLAN, resume=False)
    state.make_folder()
    with state.locked(), pytest.raises(TrainingError, match="another process is training in"):
        state.locked().__enter__()
    with state.locked():
        pass
