"""The LiteRT engine against the device's own runtime, against Keras, and each sequence alone."""

import random
from pathlib import Path

import numpy as np
import pytest

from edgewise_cloud.console import SILENT
from edgewise_cloud.convert.evaluate import keras_logits
from edgewise_cloud.keras_models.load import load_keras
from edgewise_cloud.serving.engine.batch import Batch, Sequence
from edgewise_cloud.serving.litert.prepare import prepared
from edgewise_edge import DeviceModel
from edgewise_edge.decoding.generate import TokenRequest
from tests.conftest import CONTEXT, token_request
from tests.support.litert_start import FirstStart

TOKENS = [int(token) for token in np.random.default_rng(2).integers(0, 250, CONTEXT)]
CHUNK = 64


@pytest.fixture(scope="module")
def device(first_start: FirstStart) -> DeviceModel:
    """The same file as the device runs it."""
    with prepared(str(first_start.checkpoint), SILENT) as model:
        return DeviceModel.load(model.folder, threads=1)


@pytest.fixture
def batch(first_start: FirstStart) -> Batch:
    batch = Batch(first_start.programs)
    batch.clear()
    return batch


def alone(batch: Batch, request: TokenRequest) -> list[int]:
    """Its tokens when nothing else runs, and nothing is cached."""
    batch.clear()
    sequence = batch.add(request)
    batch.finish()
    return sequence.tokens


def requests(count: int) -> list[TokenRequest]:
    """Greedy and sampled ones, with prompts and answers of all lengths, some with the same prefix."""
    draw, made = random.Random(0), []
    for index in range(count):
        prompt = draw.choices(range(250), k=draw.choice([1, 3, 40, 64, 65, 100, 128, 150]))
        if draw.random() < 0.4:
            prompt[: CHUNK + 1] = TOKENS[: min(len(prompt), CHUNK + 1)]
        settings = {"temperature": 0.8, "seed": index} if index % 2 else {"temperature": 0}
        length = draw.randint(1, CONTEXT - len(prompt))
        made.append(token_request(prompt, length, **settings))
    return made


def test_the_device_generates_the_same(batch: Batch, device: DeviceModel) -> None:
    """Greedy and seeded, from prompts of one token, within a chunk and over several."""
    for size in (1, 30, 64, 130):
        for settings in ({"temperature": 0}, {"temperature": 0.7, "top_k": 10, "seed": 11}):
            request = token_request(TOKENS[:size], 60, **settings)
            assert alone(batch, request)[size:] == list(device.stream_tokens(request))


def test_a_sequence_does_not_depend_on_the_others(batch: Batch) -> None:
    """Others join, finish, are removed and move to other slots between its steps."""
    draw, wanted = random.Random(1), requests(12)
    expected = [alone(batch, request) for request in wanted]
    batch.clear()
    coming, added = list(enumerate(wanted)), dict[int, Sequence]()
    while coming or batch.sequences:
        while coming and batch.free_slots and draw.random() < 0.4:
            index, request = coming.pop(0)
            added[index] = batch.add(request)
        batch.step()
        if batch.sequences and draw.random() < 0.02:
            removed = draw.choice(batch.sequences)
            batch.remove(removed)
            added = {index: each for index, each in added.items() if each is not removed}
    assert len(added) > 6
    assert any(each.cached for each in added.values())
    for index, sequence in added.items():
        assert sequence.tokens == expected[index]


def test_its_logits_are_close_to_those_of_keras(first_start: FirstStart, tmp_path: Path) -> None:
    """After prefill and token by token: as close as the conversion found the device's."""
    programs, model = first_start.programs, load_keras(str(first_start.checkpoint), tmp_path)
    expected = keras_logits(model, np.array(TOKENS, np.int32), 0)
    programs.reset()
    programs.prefill(TOKENS[:CHUNK], 1, 0, CONTEXT)
    programs.prefill(TOKENS[CHUNK : 2 * CHUNK], 1, CHUNK, CONTEXT)
    found = np.stack(
        [programs.decode([0, TOKENS[at]], [0, at], CONTEXT)[1].copy() for at in range(100, CONTEXT)]
    )
    difference = np.sqrt(np.square(found - expected[100:]).mean())
    assert difference < 0.1 * expected.std()


def test_scores_are_those_of_the_device(batch: Batch, device: DeviceModel) -> None:
    """With the likeliest tokens, over several chunks, up to the end of the window."""
    request = token_request(TOKENS, 0)
    sequence = batch.add(request)
    found = []
    while sequence in batch.sequences:
        found += [score for output in batch.step() for score in output.scores]
    expected = device.score(TOKENS, top=0)
    assert [each.token_id for each in found] == TOKENS
    logprobs = [[each.logprob for each in scores[1:]] for scores in (found, expected)]
    np.testing.assert_allclose(*logprobs, rtol=0, atol=1e-3)
