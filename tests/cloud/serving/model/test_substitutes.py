"""Larger programs in place of those that are not compiled yet."""

from pathlib import Path

import pytest

from edgewise_cloud.serving.engine.batch import Batch
from edgewise_cloud.serving.engine.load_engine import load_model
from edgewise_cloud.serving.engine.settings import EngineSettings
from edgewise_cloud.serving.model.interface import Compilations
from tests.cloud.serving.engine.test_batch import requests


@pytest.fixture(scope="module")
def batch(exact_folder: Path) -> Batch:
    """Of four slots."""
    _, programs = load_model(str(exact_folder), EngineSettings(slots=4))
    return Batch(programs)


def generated(batch: Batch) -> list[list[int]]:
    """The tokens of ten requests, up to four at once, each after others have left."""
    batch.clear()
    waiting, sequences = requests(10, seed=5), []
    while waiting or batch.sequences:
        if waiting and batch.free_slots:
            sequences.append(batch.add(waiting.pop()))
        batch.step()
    return [sequence.tokens for sequence in sequences]


def test_requests_are_answered_the_same_before_and_after(batch: Batch) -> None:
    """With the few programs of the start, and with all; nothing else is compiled."""
    compilations = batch.compile()
    few = generated(batch)
    missing = batch.compile()
    assert not missing.first
    assert len(missing.later) == len(compilations.later) > 0
    for compile_ in missing.later:
        compile_()
    assert generated(batch) == few
    assert batch.compile() == Compilations([], [])
