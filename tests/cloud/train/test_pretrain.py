"""Training from scratch on a few hundred words."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from edgewise_cloud.convert.convert import convert
from edgewise_cloud.convert.quantization import Quantization
from edgewise_cloud.corpus import HELD_OUT_FILE, read_documents
from edgewise_cloud.errors import TextError, TrainingError
from edgewise_cloud.train.pretrain import pretrain
from tests.cloud.conftest import STORIES
from tests.cloud.train.conftest import SCHEDULE, SIZE, Trained, weights

# Enough for SIZE's vocabulary, but not for a row of 32 tokens.
SHORT = "what was where when who was there " * 3

pytestmark = pytest.mark.usefixtures("uncompiled")


def test_a_trained_checkpoint_can_be_converted(trained: Trained, tmp_path: Path) -> None:
    """To a device model that agrees with it."""
    made = convert(str(trained.folder), tmp_path / "device", Quantization.NONE)
    assert made.manifest.architecture.vocabulary_size == 270
    assert made.evaluation.top1_agreement > 0.99


def test_each_round_is_reported(trained: Trained) -> None:
    """With steps, loss, tokens/s and time left; the loss falls."""
    line = re.compile(r"step (\d)/4 · loss (\d+\.\d{3}) · [\d,]+ tokens/s(?: · (\d+) min left)?")
    rounds = [found.groups() for one in trained.reports if (found := line.fullmatch(one))]
    assert [(step, left) for step, _, left in rounds] == [("2", "1"), ("4", None)]
    assert float(rounds[-1][1]) < float(rounds[0][1])


def test_a_preview_is_reported(trained: Trained) -> None:
    """The held-out loss, also in bits per byte, and a sample."""
    loss, sample = trained.reports[-2:]
    assert re.fullmatch(r"held-out loss \d+\.\d{3}, \d+\.\d{3} bits per byte", loss)
    assert sample.startswith("sample: Once upon a")


def test_the_held_out_set_is_written_to_the_folder(trained: Trained) -> None:
    """Whole documents, a tenth of the text."""
    held_out = read_documents([trained.folder / HELD_OUT_FILE])
    assert set(held_out) < set(STORIES)
    assert sum(map(len, held_out)) == pytest.approx(0.1 * sum(map(len, STORIES)), rel=0.1)


def test_the_held_out_set_is_not_trained_on(trained: Trained, tmp_path: Path) -> None:
    """Its content changes nothing: the same seed and training set give the same weights."""
    held_out = read_documents([trained.folder / HELD_OUT_FILE])
    swapped = [story.swapcase() if story in held_out else story for story in STORIES]
    text = tmp_path / "text.txt"
    text.write_text("<|endoftext|>".join(swapped), encoding="utf-8")
    pretrain([text], tmp_path / "model", SIZE, SCHEDULE, report=lambda _: None)
    again = read_documents([tmp_path / "model" / HELD_OUT_FILE])
    assert again == [story.swapcase() for story in held_out]
    assert weights(tmp_path / "model") == weights(trained.folder)


def test_another_seed_gives_other_weights(trained: Trained, text: Path, tmp_path: Path) -> None:
    """That the same seed gives the same weights, other tests show."""
    pretrain([text], tmp_path, SIZE, replace(SCHEDULE, seed=2), report=lambda _: None)
    assert weights(tmp_path) != weights(trained.folder)


def test_a_folder_that_cannot_be_written_to_is_an_error(text: Path) -> None:
    """Here because it is a file."""
    with pytest.raises(TrainingError, match=r"stories\.txt cannot be written"):
        pretrain([text], text, SIZE, SCHEDULE)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: No such file"),
        (b"", "is empty"),
        (b" \n<|endoftext|>\n", "is empty"),
        (b"all is well \xff", r"not UTF-8 \(byte 12\)"),
        (b"too short", "too short for a vocabulary"),
        (SHORT.encode(), "too short: .* one row takes 33"),
    ],
)
def test_unusable_text_is_a_text_error(tmp_path: Path, content: bytes | None, message: str) -> None:
    """The message says why, and nothing is written."""
    text = tmp_path / "text.txt"
    if content is not None:
        text.write_bytes(content)
    with pytest.raises(TextError, match=message):
        pretrain([text], tmp_path / "model", SIZE, replace(SCHEDULE, row=32), report=lambda _: None)
    assert not (tmp_path / "model").exists()


def test_a_width_that_the_heads_do_not_divide_is_refused(text: Path, tmp_path: Path) -> None:
    """Before any folder is made."""
    with pytest.raises(TrainingError, match="a width of 16 is not divisible by 3 heads"):
        pretrain([text], tmp_path / "model", replace(SIZE, heads=3), SCHEDULE)
    assert not (tmp_path / "model").exists()


def test_an_empty_held_out_set_is_refused(text: Path, tmp_path: Path) -> None:
    """There is nothing to measure the loss on."""
    with pytest.raises(TextError, match="0 held out"):
        pretrain([text], tmp_path, SIZE, replace(SCHEDULE, held_out=0.0), report=lambda _: None)


def test_a_context_window_may_be_shorter_than_a_row(text: Path, tmp_path: Path) -> None:
    """Rows are shortened to it."""
    schedule = replace(SCHEDULE, steps=1, row=256)
    reports: list[str] = []
    pretrain([text], tmp_path, replace(SIZE, context_window=16), schedule, report=reports.append)
    assert "bits per byte" in reports[-2]


def test_a_loss_that_diverges_is_not_saved(text: Path, tmp_path: Path) -> None:
    """The message says what to do."""
    out, schedule = tmp_path / "model", replace(SCHEDULE, learning_rate=1e20)
    with pytest.raises(TrainingError, match="lower --learning-rate"):
        pretrain([text], out, SIZE, schedule, report=lambda _: None)
    assert not (out / "training" / "state.npz").exists()
    assert not (out / "model.safetensors").exists()
