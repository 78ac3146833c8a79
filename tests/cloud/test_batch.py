"""Continuous batching against Keras itself, and against each text written alone."""

import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from keras_hub.models import GPT2CausalLM

from edgewise_cloud.keras_models.checkpoint import weights
from edgewise_cloud.keras_models.load import KerasModel, load_keras
from edgewise_cloud.serving.engine.batch import CHUNK, Batch, Text
from edgewise_edge import DeviceModel
from edgewise_edge.decoding.generate import TokenRequest
from tests.conftest import CONTEXT, token_request

SLOTS = 5
TOKENS = [int(token) for token in np.random.default_rng(2).integers(0, 250, 180)]


@pytest.fixture(scope="module")
def model(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> KerasModel:
    return load_keras(str(checkpoint), tmp_path_factory.mktemp("vocabulary"))


@pytest.fixture(scope="module")
def batch(model: KerasModel) -> Batch:
    return Batch(weights(model.backbone), model.architecture, SLOTS)


def alone(batch: Batch, request: TokenRequest) -> list[int]:
    """What it writes with nobody beside it, and nothing of it read before."""
    batch.clear()
    text = batch.add(request)
    batch.finish()
    return text.history


def requests(count: int, seed: int) -> list[TokenRequest]:
    """Greedy and sampled ones, with prompts and answers of all lengths, some beginning alike."""
    draw = random.Random(seed)
    made = []
    for index in range(count):
        prompt = [
            draw.randrange(250) for _ in range(draw.choice([1, 3, 40, 64, 65, 100, 128, 150]))
        ]
        if draw.random() < 0.4:
            prompt[: CHUNK + 1] = TOKENS[: min(len(prompt), CHUNK + 1)]
        room = CONTEXT - len(prompt)
        settings = [
            {"temperature": 0},
            {"temperature": 0.8, "seed": index, "top_k": 20},
            {
                "temperature": 1.0,
                "seed": index,
                "top_k": 0,
                "top_p": 0.9,
                "repetition_penalty": 1.2,
            },
        ]
        request = token_request(prompt, draw.randint(1, room), **draw.choice(settings))
        made.append(request)
    return made


def test_it_writes_what_keras_generates(batch: Batch, model: KerasModel) -> None:
    """GPT2CausalLM.generate, greedy, token for token, for several texts that run together."""
    prompts = [TOKENS[:30], TOKENS[5:70], TOKENS[90:100]]
    batch.clear()
    texts = [batch.add(token_request(prompt, 60, temperature=0)) for prompt in prompts]
    batch.finish()
    causal_lm = GPT2CausalLM(model.backbone)
    causal_lm.compile(sampler="greedy", run_eagerly=True)
    for prompt, text in zip(prompts, texts, strict=True):
        size = len(prompt) + 60
        ids = np.array([prompt + [0] * 60])
        mask = np.array([[1] * len(prompt) + [0] * 60])
        made = causal_lm.generate(
            {"token_ids": ids, "padding_mask": mask}, stop_token_ids=None, max_length=size
        )
        assert text.history == np.asarray(made["token_ids"])[0].tolist()


def test_its_logits_are_those_of_keras(batch: Batch, model: KerasModel) -> None:
    """At every position, over all segments of the cache, read in chunks and one by one."""
    tokens, programs = TOKENS, batch._programs
    ids = np.array([tokens])
    hidden = model.backbone({"token_ids": ids, "padding_mask": np.ones_like(ids)})
    expected = np.asarray(model.backbone.token_embedding(hidden, reverse=True))[0]
    for position, token in enumerate(tokens):
        context = 128 if position < 128 else CONTEXT
        (logits,) = programs.decode([token], [position], context)
        np.testing.assert_allclose(logits, expected[position], rtol=0, atol=1e-5)
    for start in range(0, len(tokens), CHUNK):
        chunk = tokens[start : start + CHUNK]
        programs.prefill(chunk + [0] * (CHUNK - len(chunk)), 1, start, CONTEXT)
    for position in (0, 63, 64, 127, 128, 179):
        logits = programs.decode([0, tokens[position], 0, 0, 0], [0, position, 0, 0, 0], CONTEXT)
        np.testing.assert_allclose(logits[1], expected[position], rtol=0, atol=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_a_text_is_the_same_whoever_runs_beside_it(batch: Batch, seed: int) -> None:
    """Greedy and seeded; texts join, end and are abandoned between the steps of the others."""
    draw, wanted = random.Random(seed), requests(12, seed)
    expected = [alone(batch, request) for request in wanted]
    batch.clear()
    coming, texts = list(enumerate(wanted)), dict[int, Text]()
    while coming or batch.texts:
        while coming and batch.free and draw.random() < 0.4:
            index, request = coming.pop(0)
            texts[index] = batch.add(request)
        batch.step()
        if batch.texts and draw.random() < 0.02:
            gone = draw.choice(batch.texts)
            batch.remove(gone)
            texts = {index: text for index, text in texts.items() if text is not gone}
    assert len(texts) > 6
    for index, text in texts.items():
        assert text.history == expected[index]


def test_the_device_writes_the_same(batch: Batch, exact_model: DeviceModel) -> None:
    """Greedy and seeded: the sampler is shared, and float32 logits agree closely enough."""
    for settings in ({"temperature": 0}, {"temperature": 0.7, "top_k": 10, "seed": 11}):
        request = token_request(TOKENS[:30], 150, **settings)
        assert alone(batch, request)[30:] == list(exact_model.stream_tokens(request))


def test_a_prompt_that_begins_as_another_reads_only_its_rest(batch: Batch) -> None:
    """While the other still runs and when it is gone; what follows is as without."""
    first, second = (token_request(TOKENS[:end], 20, temperature=0) for end in (150, 170))
    expected = alone(batch, second)
    batch.clear()
    running = batch.add(first)
    assert running.reused == 0
    for _ in range(4):
        batch.step()
    beside = batch.add(second)
    assert beside.reused == 2 * CHUNK
    batch.finish()
    after = batch.add(second)
    assert after.reused == 2 * CHUNK
    batch.finish()
    assert beside.history == after.history == expected


def test_a_long_prompt_is_read_between_the_steps_of_others(batch: Batch) -> None:
    """Each step reads one chunk at most, and every text that writes gets its token."""
    batch.clear()
    writing = [batch.add(token_request(TOKENS[n : n + 2], 60, temperature=0)) for n in range(3)]
    while len(batch.step()) < 3:
        pass
    long = batch.add(token_request(TOKENS[:170], 4, temperature=0))
    for unread in (169 - CHUNK, 169 - 2 * CHUNK):
        made = batch.step()
        assert {id(one.text) for one in made} == {id(text) for text in writing}
        assert long.unread == unread
    assert len(batch.step()) == 4
    batch.finish()


def test_prompts_are_read_in_turn(batch: Batch) -> None:
    """A short one writes before a long one that came first has been read."""
    batch.clear()
    long = batch.add(token_request(TOKENS[:180], 4, temperature=0))
    short = batch.add(token_request(TOKENS[90:120], 4, temperature=0))
    made = [id(one.text) for _ in range(2) for one in batch.step()]
    assert set(made) == {id(short)}
    assert long.unread
    batch.finish()


def test_a_text_ends_with_an_end_token_or_at_the_window(batch: Batch) -> None:
    """The end token is written; the window can be used to its last position."""
    whole = alone(batch, token_request(TOKENS[:20], 30, temperature=0))
    end = whole[25]
    request = TokenRequest(
        token_ids=tuple(TOKENS[:20]),
        prompt_tokens=20,
        max_tokens=30,
        sampling=token_request([1], 1, temperature=0).sampling,
        end_ids=frozenset({end}),
    )
    assert alone(batch, request) == whole[: whole.index(end, 20) + 1]
    assert len(alone(batch, token_request(TOKENS[:170], CONTEXT - 170))) == CONTEXT


def test_logits_that_are_no_numbers_end_only_their_text(
    batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others write on, what they would have written."""
    good, bad = (token_request(TOKENS[n : n + 9], 12, temperature=0) for n in (0, 40))
    expected = alone(batch, good)
    batch.clear()
    decode = batch._programs.decode

    def spoilt(*numbers: object) -> np.ndarray:
        logits = decode(*numbers).copy()
        logits[1:] = np.nan
        return logits

    texts = [batch.add(good), batch.add(bad)]
    monkeypatch.setattr(batch._programs, "decode", spoilt)
    made = batch.step() + batch.step()
    assert [one.token for one in made if one.text is texts[1]] == [None]
    monkeypatch.undo()
    batch.finish()
    assert texts[0].history == expected


def test_it_runs_on_jax_as_well() -> None:
    """By KERAS_BACKEND=jax: tests above, in a process of its own."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    run = subprocess.run(
        [*command, "-k", "keras"],
        env={**os.environ, "KERAS_BACKEND": "jax"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "2 passed" in run.stdout, run.stdout
