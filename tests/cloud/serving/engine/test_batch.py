"""Continuous batching against Keras itself, and against each sequence generated alone."""

import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from keras_hub.models import GPT2CausalLM

from edgewise_cloud.keras_models.checkpoint import weights
from edgewise_cloud.keras_models.load import KerasModel, load_keras
from edgewise_cloud.serving.engine.batch import Batch, Sequence
from edgewise_cloud.serving.model.layout import PREFILL_CHUNK as CHUNK
from edgewise_cloud.serving.model.programs import CompiledPrograms
from edgewise_edge import DeviceModel
from edgewise_edge.decoding.request import TokenRequest
from edgewise_edge.decoding.token_score import TokenScore
from tests.conftest import CONTEXT, token_request
from tests.support.gated_programs import GatedPrograms

SLOTS = 5
TOKENS = [int(token) for token in np.random.default_rng(2).integers(0, 250, 180)]


@pytest.fixture(scope="module")
def model(exact_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> KerasModel:
    return load_keras(str(exact_folder), tmp_path_factory.mktemp("vocabulary"))


@pytest.fixture(scope="module")
def programs(model: KerasModel) -> GatedPrograms:
    return GatedPrograms(CompiledPrograms(weights(model.backbone), model.architecture, SLOTS))


@pytest.fixture(scope="module")
def batch(programs: GatedPrograms) -> Batch:
    return Batch(programs)


def alone(batch: Batch, request: TokenRequest) -> list[int]:
    """Its tokens when nothing else runs, and nothing is cached."""
    batch.clear()
    sequence = batch.add(request)
    batch.finish()
    return sequence.tokens


def scores(batch: Batch, tokens: list[int], top: int) -> list[TokenScore]:
    """Those of the tokens, while others go on."""
    request = replace(token_request(tokens, 0), logprobs=top)
    sequence, found = batch.add(request), list[TokenScore]()
    while sequence in batch.sequences:
        for output in batch.step():
            found += output.scores if output.sequence is sequence else ()
    return found


def requests(count: int, seed: int) -> list[TokenRequest]:
    """Greedy and sampled ones, with prompts and answers of all lengths, some with the same prefix."""
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


def test_it_generates_what_keras_does(batch: Batch, model: KerasModel) -> None:
    """GPT2CausalLM.generate, greedy, token for token, for several sequences at once."""
    prompts = [TOKENS[:30], TOKENS[5:70], TOKENS[90:100]]
    batch.clear()
    sequences = [batch.add(token_request(prompt, 24, temperature=0)) for prompt in prompts]
    batch.finish()
    causal_lm = GPT2CausalLM(model.backbone)
    causal_lm.compile(sampler="greedy", run_eagerly=True)
    for prompt, sequence in zip(prompts, sequences, strict=True):
        size = len(prompt) + 24
        ids = np.array([prompt + [0] * 24])
        mask = np.array([[1] * len(prompt) + [0] * 24])
        made = causal_lm.generate(
            {"token_ids": ids, "padding_mask": mask}, stop_token_ids=None, max_length=size
        )
        assert sequence.tokens == np.asarray(made["token_ids"])[0].tolist()


def test_its_logits_are_those_of_keras(programs: GatedPrograms, model: KerasModel) -> None:
    """At every position, over all segments of the cache, after prefill and token by token."""
    tokens = TOKENS
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


def test_its_scores_are_those_of_keras(batch: Batch, model: KerasModel) -> None:
    """For every length of the last chunk, beside sequences that decode; the likeliest ones too."""
    ids = np.array([TOKENS])
    hidden = model.backbone({"token_ids": ids, "padding_mask": np.ones_like(ids)})
    logits = model.backbone.token_embedding(hidden, reverse=True)
    expected = np.asarray(keras.ops.log_softmax(logits, axis=-1))[0]
    batch.clear()
    decoding = batch.add(token_request(TOKENS[3:5], 150, temperature=0))
    for length, top in ((1, 3), (2, 0), (32, 5), (33, 1), (34, 20), (180, 20)):
        found = scores(batch, TOKENS[:length], top)
        assert [each.token_id for each in found] == TOKENS[:length]
        assert found[0].logprob is None
        for position, score in enumerate(found[1:]):
            likeliest = np.argsort(-expected[position], kind="stable")[:top]
            assert score.logprob == pytest.approx(expected[position, score.token_id], abs=1e-4)
            assert [id_ for id_, _ in score.top] == likeliest.tolist()
            likely = [logprob for _, logprob in score.top]
            assert likely == pytest.approx(expected[position, likeliest], abs=1e-4)
    batch.finish()
    assert decoding.tokens == alone(batch, decoding.request)


def test_a_new_tokens_score_is_that_of_its_place(batch: Batch) -> None:
    """Whatever the sampling: it equals the score of the whole sequence, and the token is the same."""
    sampling = {"temperature": 2.0, "top_k": 5, "seed": 3, "repetition_penalty": 1.5}
    plain = token_request(TOKENS[:20], 20, **sampling)
    tokens, found = alone(batch, plain), list[TokenScore]()
    batch.add(replace(plain, logprobs=4))
    while batch.sequences:
        found += [score for output in batch.step() for score in output.scores]
    assert tokens[20:] == [each.token_id for each in found]
    for score, whole in zip(found, scores(batch, tokens, 4)[20:], strict=True):
        assert score.logprob == pytest.approx(whole.logprob, abs=1e-4)
        assert [id_ for id_, _ in score.top] == [id_ for id_, _ in whole.top]


@pytest.mark.parametrize("seed", range(4))
def test_a_sequence_does_not_depend_on_the_others(batch: Batch, seed: int) -> None:
    """Greedy and seeded; others join, finish and are removed between its steps."""
    draw, wanted = random.Random(seed), requests(12, seed)
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
    for index, sequence in added.items():
        assert sequence.tokens == expected[index]


def test_the_device_generates_the_same(batch: Batch, exact_model: DeviceModel) -> None:
    """Greedy and seeded: the sampler is shared, and float32 logits agree closely enough."""
    for settings in ({"temperature": 0}, {"temperature": 0.7, "top_k": 10, "seed": 11}):
        request = token_request(TOKENS[:30], 150, **settings)
        assert alone(batch, request)[30:] == list(exact_model.stream_tokens(request))


def test_a_cached_prefix_is_not_prefilled_again(batch: Batch) -> None:
    """Of a running sequence and of a finished one; the tokens are the same as without a cache."""
    first, second = (token_request(TOKENS[:end], 20, temperature=0) for end in (150, 170))
    expected = alone(batch, second)
    batch.clear()
    running = batch.add(first)
    assert running.cached == 0
    for _ in range(4):
        batch.step()
    second_run = batch.add(second)
    assert second_run.cached == 2 * CHUNK
    batch.finish()
    third_run = batch.add(second)
    assert third_run.cached == 2 * CHUNK
    batch.finish()
    assert second_run.tokens == third_run.tokens == expected


def test_a_long_prompt_is_prefilled_between_the_steps_of_others(batch: Batch) -> None:
    """Each step prefills one chunk at most, and every decoding sequence gets its token."""
    batch.clear()
    decoding = [batch.add(token_request(TOKENS[n : n + 2], 60, temperature=0)) for n in range(3)]
    while len(batch.step()) < 3:
        pass
    long = batch.add(token_request(TOKENS[:170], 4, temperature=0))
    for to_prefill in (169 - CHUNK, 169 - 2 * CHUNK):
        outputs = batch.step()
        assert {id(output.sequence) for output in outputs} == {id(each) for each in decoding}
        assert long.to_prefill == to_prefill
    assert len(batch.step()) == 4
    batch.finish()


def test_a_score_is_computed_between_the_steps_of_others(
    batch: Batch, programs: GatedPrograms
) -> None:
    """A chunk a step, half of a prompt's, and every decoding sequence gets its token.

    Afterwards its slot serves a prompt that begins with its tokens.
    """
    batch.clear()
    decoding = batch.add(token_request(TOKENS[:2], 60, temperature=0))
    batch.step()
    batch.step()
    score = batch.add(token_request(TOKENS[:140], 0))
    programs.calls.clear()
    while score in batch.sequences:
        assert [output.token is not None for output in batch.step()] == [False, True]
    assert list(programs.calls) == ["score", "decode"] * 5
    assert batch.add(token_request(TOKENS[:160], 1, temperature=0)).cached == 2 * CHUNK
    batch.finish()
    assert decoding.finished


def test_prompts_are_prefilled_in_turn(batch: Batch) -> None:
    """A short one decodes before a long one that came first is prefilled."""
    batch.clear()
    long = batch.add(token_request(TOKENS[:180], 4, temperature=0))
    short = batch.add(token_request(TOKENS[90:120], 4, temperature=0))
    outputs = [id(output.sequence) for _ in range(2) for output in batch.step()]
    assert set(outputs) == {id(short)}
    assert long.to_prefill
    batch.finish()


def test_two_prompts_are_prefilled_at_once(batch: Batch, programs: GatedPrograms) -> None:
    """By one program, while nothing decodes; the tokens are those of each alone."""
    wanted = [token_request(tokens, 20, temperature=0) for tokens in (TOKENS[:100], TOKENS[60:])]
    expected = [alone(batch, request) for request in wanted]
    batch.clear()
    sequences = [batch.add(request) for request in wanted]
    programs.calls.clear()
    batch.step()
    assert list(programs.calls) == ["prefill"]
    assert [each.to_prefill for each in sequences] == [99 - CHUNK, 119 - CHUNK]
    batch.finish()
    assert [each.tokens for each in sequences] == expected


def test_a_sequence_ends_with_an_end_token_or_at_the_window(batch: Batch) -> None:
    """The end token is included; the window can be used to its last position."""
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


def test_nan_logits_end_only_their_sequence(batch: Batch, programs: GatedPrograms) -> None:
    """The others go on, with the same tokens."""
    good, bad = (token_request(TOKENS[n : n + 9], 12, temperature=0) for n in (0, 40))
    expected = alone(batch, good)
    batch.clear()

    def spoil(logits: np.ndarray) -> None:
        logits[1:] = np.nan

    sequences = [batch.add(good), batch.add(bad)]
    programs.change_logits = spoil
    outputs = batch.step() + batch.step()
    assert [each.token for each in outputs if each.sequence is sequences[1]] == [None]
    programs.behave()
    batch.finish()
    assert sequences[0].tokens == expected


@pytest.mark.soak
def test_it_runs_on_jax() -> None:
    """With KERAS_BACKEND=jax: tests of this file, in a process of their own."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    run = subprocess.run(
        [*command, "-k", "keras"],
        env={**os.environ, "KERAS_BACKEND": "jax"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "3 passed" in run.stdout, run.stdout
