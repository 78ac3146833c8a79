"""Training from scratch, on a few hundred words."""

import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from edgewise_cloud.convert.convert import convert
from edgewise_cloud.convert.quantization import Quantization
from edgewise_cloud.corpus import HELD_OUT_FILE, read_documents
from edgewise_cloud.errors import TextError, TrainingError
from edgewise_cloud.train.pretrain import Size, train
from edgewise_cloud.train.progress import Progress
from edgewise_cloud.train.schedule import Schedule
from tests.cloud.conftest import STORIES, FullDisk

SIZE = Size(vocabulary_size=270, layers=1, width=16, heads=2, context_window=32)
SCHEDULE = Schedule(
    steps=8, learning_rate=1e-2, batch_tokens=128, row=16, held_out=0.1, round_steps=4
)
# Enough for a vocabulary of that size, not for a row of 32 tokens.
SHORT = "what was where when who was there " * 3

pytestmark = pytest.mark.usefixtures("uncompiled")


@dataclass(frozen=True)
class Trained:
    folder: Path
    reports: list[str]


@pytest.fixture(scope="module")
def trained(text: Path, uncompiled: None, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A training that nothing disturbed."""
    made = Trained(tmp_path_factory.mktemp("trained") / "model", [])
    train([text], made.folder, SIZE, SCHEDULE, report=made.reports.append)
    return made


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def files(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_what_was_trained_can_be_converted(trained: Trained, tmp_path: Path) -> None:
    """Text in, checkpoint out, and a device model from it."""
    manifest, evaluation = convert(str(trained.folder), tmp_path / "device", Quantization.NONE)
    assert manifest.architecture.vocabulary_size == 270
    assert evaluation.top1_agreement > 0.99


def test_each_round_is_reported(trained: Trained) -> None:
    """With steps, loss, tokens a second and time left; and the loss falls."""
    line = re.compile(r"step (\d)/8 · loss (\d+\.\d{3}) · [\d,]+ tokens/s · \d+ min left")
    rounds = [found.groups() for one in trained.reports if (found := line.fullmatch(one))]
    assert [step for step, _ in rounds] == ["4", "8"]
    assert float(rounds[-1][1]) < float(rounds[0][1])


def test_what_comes_out_is_looked_at(trained: Trained) -> None:
    """The loss on what was held out, in bits per byte too, and a sample."""
    look, sample = trained.reports[-2:]
    assert re.fullmatch(r"held-out loss \d+\.\d{3}, \d+\.\d{3} bits per byte", look)
    assert sample.strip().startswith("Once upon a")


def test_what_was_held_out_is_there_to_judge_by(trained: Trained) -> None:
    """Whole documents, a tenth of the text."""
    held_out = read_documents([trained.folder / HELD_OUT_FILE])
    assert set(held_out) < set(STORIES)
    assert sum(map(len, held_out)) == pytest.approx(0.1 * sum(map(len, STORIES)), rel=0.1)


def test_what_is_held_out_is_not_learned_from(trained: Trained, tmp_path: Path) -> None:
    """Whatever stands in it, the weights become the same."""
    held_out = read_documents([trained.folder / HELD_OUT_FILE])
    swapped = [story.swapcase() if story in held_out else story for story in STORIES]
    text = tmp_path / "text.txt"
    text.write_text("<|endoftext|>".join(swapped), encoding="utf-8")
    train([text], tmp_path / "model", SIZE, SCHEDULE, report=lambda _: None)
    again = read_documents([tmp_path / "model" / HELD_OUT_FILE])
    assert again == [story.swapcase() for story in held_out]
    assert weights(tmp_path / "model") == weights(trained.folder)


def test_a_seed_fixes_the_weights(trained: Trained, text: Path, tmp_path: Path) -> None:
    """The same seed gives them twice, another one gives others."""
    for name, seed in {"same": 1, "other": 2}.items():
        schedule = replace(SCHEDULE, seed=seed)
        train([text], tmp_path / name, SIZE, schedule, report=lambda _: None)
    assert weights(tmp_path / "same") == weights(trained.folder)
    assert weights(tmp_path / "other") != weights(trained.folder)


def test_an_interrupted_training_ends_as_an_unbroken_one(
    trained: Trained,
    text: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    full_disk: FullDisk,
) -> None:
    """Stopped in the middle of a round, then by a full disk: each costs that round and no more."""
    out = tmp_path / "model"
    reports: list[str] = []

    def stop(progress: Progress, batch: int, logs: object = None) -> None:
        if "step 4/8" in reports[-1]:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Progress, "on_train_batch_end", stop)
        with pytest.raises(KeyboardInterrupt):
            train([text], out, SIZE, SCHEDULE, report=reports.append)
    before = files(out)
    with (
        full_disk(4096),
        pytest.raises(TrainingError, match=r"cannot be written to: .*is intact, --resume"),
    ):
        train([text], out, SIZE, SCHEDULE, resume=True, report=reports.append)
    assert files(out) == before
    assert "model.safetensors" not in before

    reports.clear()
    train([text], out, SIZE, SCHEDULE, resume=True, report=reports.append)
    assert reports[1] == "going on after step 4"
    assert reports[2].startswith("step 8/8")
    assert weights(out) == weights(trained.folder)


def test_a_full_disk_at_the_very_end(
    trained: Trained, text: Path, tmp_path: Path, full_disk: FullDisk
) -> None:
    """Leaves no half model under a model's name, and --resume writes it after all."""
    out = Path(shutil.copytree(trained.folder, tmp_path / "model"))
    (out / "model.safetensors").unlink()
    before = files(out)
    with full_disk(4096), pytest.raises(TrainingError, match="cannot be written"):
        train([text], out, SIZE, SCHEDULE, resume=True)
    assert files(out) == before
    train([text], out, SIZE, SCHEDULE, resume=True, report=lambda _: None)
    assert weights(out) == weights(trained.folder)


def test_other_options_are_no_continuation(trained: Trained, text: Path) -> None:
    """The refusal names what differs, and that alone."""
    plans = {
        "learning_rate was 0.01, is 0.001": (SIZE, replace(SCHEDULE, learning_rate=0.001)),
        "layers was 1, is 2": (replace(SIZE, layers=2), SCHEDULE),
        "steps was 8, is 9, seed was 1, is 2": (SIZE, replace(SCHEDULE, steps=9, seed=2)),
    }
    for words, (size, schedule) in plans.items():
        with pytest.raises(TrainingError, match=f"with another plan: {words}; give"):
            train([text], trained.folder, size, schedule, resume=True)


def test_another_text_is_no_continuation(trained: Trained, tmp_path: Path) -> None:
    """One word more is another text."""
    text = tmp_path / "text.txt"
    text.write_text("\n<|endoftext|>\n".join([*STORIES[:-1], STORIES[-1] + " Late."]))
    with pytest.raises(TrainingError, match=r"with another plan: text was \w+, is \w+; give"):
        train([text], trained.folder, SIZE, SCHEDULE, resume=True)


def test_a_training_is_gone_on_with_only_when_asked(trained: Trained, text: Path) -> None:
    """It may have taken days."""
    with pytest.raises(TrainingError, match="add --resume"):
        train([text], trained.folder, SIZE, SCHEDULE)


@pytest.mark.parametrize("resume", [False, True])
def test_a_model_is_never_overwritten(
    text: Path, checkpoint: Path, tmp_path: Path, resume: bool
) -> None:
    """One with Keras weights or for a device alone."""
    device = tmp_path / "device"
    device.mkdir()
    (device / "manifest.json").write_text("{}")
    for folder in (checkpoint, device):
        before = files(folder)
        with pytest.raises(TrainingError, match="is not empty"):
            train([text], folder, SIZE, SCHEDULE, resume=resume)
        assert files(folder) == before


def test_a_folder_that_cannot_be_written_to(text: Path) -> None:
    """Say, because it is a file."""
    with pytest.raises(TrainingError, match=r"stories\.txt cannot be written"):
        train([text], text, SIZE, SCHEDULE)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read: No such file"),
        (b"", "is empty"),
        (b" \n<|endoftext|>\n", "is empty"),
        (b"all is well \xff", r"not UTF-8 \(byte 12\)"),
        (b"too short", "too short for a vocabulary"),
        (SHORT.encode(), "too short: .* one row takes 33"),
    ],
)
def test_text_that_cannot_be_used(tmp_path: Path, content: bytes | None, words: str) -> None:
    """Missing, empty, not UTF-8 or too short: each says so, and leaves no model."""
    text = tmp_path / "text.txt"
    if content is not None:
        text.write_bytes(content)
    with pytest.raises(TextError, match=words):
        train([text], tmp_path / "model", SIZE, replace(SCHEDULE, row=32), report=lambda _: None)
    assert not (tmp_path / "model" / "model.safetensors").exists()


@pytest.mark.parametrize("room", [0, 500, 1500, 4096])
def test_a_disk_full_from_the_beginning(
    text: Path, tmp_path: Path, full_disk: FullDisk, room: int
) -> None:
    """A sentence, whichever file comes first to be too large."""
    with full_disk(room), pytest.raises(TrainingError, match="cannot be written to: "):
        train([text], tmp_path, SIZE, SCHEDULE, report=lambda _: None)
    assert not (tmp_path / "training" / "state.npz").exists()
    train([text], tmp_path, SIZE, replace(SCHEDULE, steps=1), report=lambda _: None)


def test_heads_share_the_width_evenly(text: Path, tmp_path: Path) -> None:
    """A size that cannot be is refused before anything is made."""
    with pytest.raises(TrainingError, match="a width of 16 cannot be shared by 3 heads"):
        train([text], tmp_path / "model", replace(SIZE, heads=3), SCHEDULE)
    assert not (tmp_path / "model").exists()


def test_something_must_be_held_out(text: Path, tmp_path: Path) -> None:
    """Or there is nothing to judge by."""
    with pytest.raises(TextError, match="0 held out"):
        train([text], tmp_path, SIZE, replace(SCHEDULE, held_out=0.0), report=lambda _: None)


def test_a_failed_try_leaves_nothing_to_the_next(
    trained: Trained, text: Path, tmp_path: Path
) -> None:
    """The vocabulary is the new text's."""
    other, out = tmp_path / "other.txt", tmp_path / "model"
    other.write_text(SHORT, encoding="utf-8")
    with pytest.raises(TextError, match="too short"):
        train([other], out, SIZE, replace(SCHEDULE, row=32), report=lambda _: None)
    assert (out / "vocab.json").exists()
    train([text], out, SIZE, SCHEDULE, report=lambda _: None)
    assert weights(out) == weights(trained.folder)


def test_a_context_window_may_be_shorter_than_a_row(text: Path, tmp_path: Path) -> None:
    """Rows are cut to it."""
    schedule = replace(SCHEDULE, steps=1, row=256)
    reports: list[str] = []
    train([text], tmp_path, replace(SIZE, context_window=16), schedule, report=reports.append)
    assert "bits per byte" in reports[-2]


def test_a_loss_that_diverges_is_not_saved(text: Path, tmp_path: Path) -> None:
    """It is said at once, with what to do."""
    out, schedule = tmp_path / "model", replace(SCHEDULE, learning_rate=1e20)
    with pytest.raises(TrainingError, match="lower --learning-rate"):
        train([text], out, SIZE, schedule, report=lambda _: None)
    assert not (out / "training" / "state.npz").exists()
    assert not (out / "model.safetensors").exists()
