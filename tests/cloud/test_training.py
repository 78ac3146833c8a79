"""Training, on a text of a few hundred words."""

from dataclasses import replace
from pathlib import Path

import pytest

from edgewise_cloud.conversion import convert
from edgewise_cloud.errors import TextError
from edgewise_cloud.quantization import Quantization
from edgewise_cloud.training import TrainingPlan, train

PLAN = TrainingPlan(
    vocabulary_size=270,
    layers=1,
    width=16,
    heads=2,
    context_window=16,
    batch_size=4,
    steps=8,
    steps_per_round=4,
    held_out=0.1,
)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text("the cat sat on the mat and the dog lay by the door.\n" * 60)
    return path


def losses(reports: list[str]) -> list[str]:
    return [line for line in reports if "held-out loss" in line]


def test_what_was_trained_can_be_converted(text: Path, tmp_path: Path) -> None:
    """Text in, checkpoint out, and a device model from it."""
    reports: list[str] = []
    train([text], tmp_path / "model", PLAN, report=reports.append)
    (loss,) = losses(reports)
    assert "bits per byte" in loss
    manifest, _ = convert(str(tmp_path / "model"), tmp_path / "device", Quantization.NONE)
    assert manifest.architecture.vocabulary_size == 270


def test_an_interrupted_training_ends_where_an_unbroken_one_does(
    text: Path, tmp_path: Path
) -> None:
    """Half the rounds, then the rest: the same loss to the last digit shown."""
    unbroken: list[str] = []
    resumed: list[str] = []
    train([text], tmp_path / "a", PLAN, report=unbroken.append)

    class Interrupted(Exception):
        pass

    def interrupt(line: str) -> None:
        resumed.append(line)

    import edgewise_cloud.training as module

    save = module._save

    def save_once(*state: object) -> None:
        save(*state)
        raise Interrupted

    module._save = save_once
    try:
        with pytest.raises(Interrupted):
            train([text], tmp_path / "b", PLAN, report=interrupt)
    finally:
        module._save = save
    train([text], tmp_path / "b", PLAN, report=interrupt)
    assert losses(resumed) == losses(unbroken)


def test_too_little_to_hold_out(text: Path, tmp_path: Path) -> None:
    """The share kept for judging must be longer than one window."""
    with pytest.raises(TextError, match="too few"):
        train([text], tmp_path / "model", replace(PLAN, held_out=0.001))


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "cannot be read"), (b"\xff\xfe", "not UTF-8"), (b"too short", "too short for")],
)
def test_text_that_cannot_be_used(tmp_path: Path, content: bytes | None, words: str) -> None:
    """Missing, not UTF-8 or too short: each says so."""
    path = tmp_path / "text.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(TextError, match=words):
        train([path], tmp_path / "model", PLAN)
