"""Checkpoints of a training, of a model too small to be one."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest

from edgewise_cloud.errors import TrainingError
from edgewise_cloud.files import atomic_write
from edgewise_cloud.keras_models.checkpoint import save_checkpoint
from edgewise_cloud.keras_models.load import load_keras
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


def test_a_restored_model_learns_on_as_the_saved_one(tmp_path: Path) -> None:
    """The same dropout, the same momentum, and its LoRA still apart."""
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


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path: Path, full_disk: FullDisk) -> None:
    """And nothing beside it."""
    state = TrainingState.open(tmp_path, PLAN, resume=False)
    model = tiny(seed=1)
    learn(model)
    state.save(model)
    before = numbers(model)
    learn(model)
    with full_disk(4096), pytest.raises(TrainingError, match="--resume goes on"):
        state.save(model)
    assert {path.name for path in state.folder.iterdir()} == {"plan.json", STATE_FILE}
    restored = tiny(seed=2)
    assert state.restore(restored) == 1
    for one, other in zip(before, numbers(restored), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("left", [0, 10, 1000])
def test_a_damaged_checkpoint_is_named(tmp_path: Path, left: int) -> None:
    """Cut short by whatever it may be."""
    state = TrainingState.open(tmp_path, PLAN, resume=False)
    model = tiny(seed=1)
    learn(model)
    state.save(model)
    path = tmp_path / STATE_FOLDER / STATE_FILE
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(TrainingError, match=r"state\.npz is damaged; remove"):
        state.restore(tiny(seed=1))


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    """A KerasHub of another version may build it from other weights."""
    state = TrainingState.open(tmp_path, PLAN, resume=False)
    model = tiny(seed=1)
    learn(model)
    state.save(model)
    other = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    other.compile(optimizer="adamw", loss="mse")
    with pytest.raises(TrainingError, match="damaged"):
        state.restore(other)


def test_a_refusal_names_what_differs(tmp_path: Path) -> None:
    """Wherever it stands in the plan, and what is in one plan only."""
    state = TrainingState.open(tmp_path, PLAN, resume=False)
    model = tiny(seed=1)
    learn(model)
    state.save(model)
    other = json.loads(json.dumps(PLAN)) | {"preset": "gpt2"}
    other["schedule"]["steps"] = 5
    with pytest.raises(TrainingError, match="plan: steps was 4, is 5, preset was None, is gpt2;"):
        TrainingState.open(tmp_path, other, resume=True)


def test_resuming_where_nothing_lies_begins(tmp_path: Path) -> None:
    """One command does for both."""
    state = TrainingState.open(tmp_path / "new", PLAN, resume=True)
    assert not state.begun
    assert not state.folder.exists()
    state.begin()
    assert TrainingState.open(tmp_path / "new", PLAN, resume=False) == state


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    """The old one stands until the new one is complete."""
    path = tmp_path / "file"
    path.write_text("old")

    def stopped() -> None:
        with atomic_write(path) as partial:
            partial.write_text("ne")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert [one.read_text() for one in tmp_path.iterdir()] == ["old"]
    with atomic_write(path) as partial:
        partial.write_text("new")
        assert path.read_text() == "old"
    assert [one.read_text() for one in tmp_path.iterdir()] == ["new"]


def test_a_model_is_saved_whole_or_not_at_all(
    checkpoint: Path, tmp_path: Path, full_disk: FullDisk
) -> None:
    """A full disk leaves no weights under their name, and those of before where there were some."""
    backbone = load_keras(str(checkpoint), tmp_path).backbone
    out = tmp_path / "model"
    out.mkdir()
    with full_disk(4096), pytest.raises(OSError, match="File too large"):
        save_checkpoint(backbone, out)
    assert [path.name for path in out.iterdir()] == ["config.json"]
    save_checkpoint(backbone, out, dtype="float16")
    before = (out / "model.safetensors").read_bytes()
    with full_disk(4096), pytest.raises(OSError, match="File too large"):
        save_checkpoint(backbone, out)
    assert (out / "model.safetensors").read_bytes() == before
    assert {path.name for path in out.iterdir()} == {"config.json", "model.safetensors"}


def test_a_damaged_plan_is_named(tmp_path: Path) -> None:
    """And what to do; the weights beside it are of an unknown plan."""
    state = TrainingState.open(tmp_path, PLAN, resume=False)
    state.begin()
    (state.folder / STATE_FILE).write_bytes(b"weights")
    for content in (None, "garbage", "7"):
        if content is not None:
            (state.folder / "plan.json").write_text(content)
        with pytest.raises(TrainingError, match=r"plan\.json is damaged; remove"):
            TrainingState.open(tmp_path, PLAN, resume=True)
