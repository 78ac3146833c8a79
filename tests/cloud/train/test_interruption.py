"""Interrupted trainings, full disks, and what --resume continues."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from edgewise_cloud.errors import TrainingError
from edgewise_cloud.train.pretrain import pretrain
from edgewise_cloud.train.progress import TrainingProgress
from tests.cloud.conftest import STORIES, FullDisk
from tests.cloud.train.conftest import SCHEDULE, SIZE, Trained, files, weights

pytestmark = pytest.mark.usefixtures("uncompiled")


def test_a_resumed_training_ends_with_the_same_weights(
    trained: Trained,
    text: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    full_disk: FullDisk,
) -> None:
    """Ctrl-C in the middle of a round, then a full disk: each loses only that round."""
    out = tmp_path / "model"
    reports: list[str] = []

    def stop(progress: TrainingProgress, batch: int, logs: object = None) -> None:
        if "step 2/4" in reports[-1]:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(TrainingProgress, "on_train_batch_end", stop)
        with pytest.raises(KeyboardInterrupt):
            pretrain([text], out, SIZE, SCHEDULE, report=reports.append)
    before = files(out)
    with (
        full_disk(4096),
        pytest.raises(TrainingError, match=r"cannot be written to: .*is intact, --resume"),
    ):
        pretrain([text], out, SIZE, SCHEDULE, resume=True, report=reports.append)
    assert files(out) == before
    assert "model.safetensors" not in before

    reports.clear()
    pretrain([text], out, SIZE, SCHEDULE, resume=True, report=reports.append)
    assert reports[1] == "resuming after step 2"
    assert reports[2].startswith("step 4/4")
    assert weights(out) == weights(trained.folder)


def test_a_full_disk_at_the_end_leaves_no_partial_model(
    trained: Trained, text: Path, tmp_path: Path, full_disk: FullDisk
) -> None:
    """With --resume the model is written later."""
    out = Path(shutil.copytree(trained.folder, tmp_path / "model"))
    (out / "model.safetensors").unlink()
    before = files(out)
    with full_disk(4096), pytest.raises(TrainingError, match="cannot be written"):
        pretrain([text], out, SIZE, SCHEDULE, resume=True)
    assert files(out) == before
    pretrain([text], out, SIZE, SCHEDULE, resume=True, report=lambda _: None)
    assert weights(out) == weights(trained.folder)


def test_resuming_with_other_options_is_refused(trained: Trained, text: Path) -> None:
    """The message names exactly what differs."""
    plans = {
        "learning_rate was 0.01, is 0.001": (SIZE, replace(SCHEDULE, learning_rate=0.001)),
        "layers was 1, is 2": (replace(SIZE, layers=2), SCHEDULE),
        "steps was 4, is 5, seed was 1, is 2": (SIZE, replace(SCHEDULE, steps=5, seed=2)),
    }
    for differences, (size, schedule) in plans.items():
        with pytest.raises(TrainingError, match=f"with another plan: {differences}; give"):
            pretrain([text], trained.folder, size, schedule, resume=True)


def test_resuming_with_another_text_is_refused(trained: Trained, tmp_path: Path) -> None:
    """Another word is enough."""
    text = tmp_path / "text.txt"
    text.write_text("\n<|endoftext|>\n".join([*STORIES[:-1], STORIES[-1] + " Late."]))
    with pytest.raises(TrainingError, match=r"with another plan: text was \w+, is \w+; give"):
        pretrain([text], trained.folder, SIZE, SCHEDULE, resume=True)


def test_a_training_is_resumed_only_on_request(trained: Trained, text: Path) -> None:
    """Without --resume it is neither continued nor overwritten."""
    with pytest.raises(TrainingError, match="add --resume"):
        pretrain([text], trained.folder, SIZE, SCHEDULE)


@pytest.mark.parametrize("resume", [False, True])
def test_a_model_is_never_overwritten(
    text: Path, checkpoint: Path, tmp_path: Path, resume: bool
) -> None:
    """Neither a checkpoint nor a device model."""
    device = tmp_path / "device"
    device.mkdir()
    (device / "manifest.json").write_text("{}")
    for folder in (checkpoint, device):
        before = files(folder)
        with pytest.raises(TrainingError, match="is not empty"):
            pretrain([text], folder, SIZE, SCHEDULE, resume=resume)
        assert files(folder) == before


def test_a_model_without_its_state_is_not_overwritten(
    trained: Trained, text: Path, tmp_path: Path
) -> None:
    """Its state is large, and may go when the training is done."""
    out = Path(shutil.copytree(trained.folder, tmp_path / "model"))
    (out / "training" / "state.npz").unlink()
    before = files(out)
    with pytest.raises(TrainingError, match="is not empty"):
        pretrain([text], out, SIZE, SCHEDULE, resume=True)
    assert files(out) == before


def test_a_folder_called_training_does_not_make_one(text: Path, tmp_path: Path) -> None:
    """Here it is a project's."""
    (tmp_path / "training").mkdir()
    (tmp_path / "vocab.json").write_text("mine")
    (tmp_path / "main.py").write_text("mine")
    before = files(tmp_path)
    with pytest.raises(TrainingError, match="is not empty"):
        pretrain([text], tmp_path, SIZE, SCHEDULE)
    assert files(tmp_path) == before


def test_a_disk_that_is_full_from_the_start_is_an_error(
    text: Path, tmp_path: Path, full_disk: FullDisk
) -> None:
    """Whichever file is the first that does not fit; afterwards, the folder can be used."""
    for size in (0, 500, 1500, 4096):
        with full_disk(size), pytest.raises(TrainingError, match="cannot be written to: "):
            pretrain([text], tmp_path, SIZE, SCHEDULE, report=lambda _: None)
        assert not (tmp_path / "training" / "state.npz").exists()
    pretrain([text], tmp_path, SIZE, replace(SCHEDULE, steps=1), report=lambda _: None)
