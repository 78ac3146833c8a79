"""Scoring a given text with a device model."""

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from edgewise_edge import (
    ContextOverflowError,
    DeviceModel,
    RequestError,
    RuntimeFailedError,
    TokenScore,
)
from edgewise_edge.decoding.scoring import score_tokens
from edgewise_edge.runtime.session import Runtime
from tests.conftest import CONTEXT, token_request
from tests.edge.runtime.backends import OlderBackend
from tests.edge.runtime.recording import RecordingRuntime
from tests.edge.runtime.scores import assert_close, scores_one_by_one

TOKENS = [int(token) for token in np.random.default_rng(1).integers(0, 250, CONTEXT)]


class Watched:
    """A session that counts its steps, and calls `after` each."""

    def __init__(self, logprob: float = -1.0) -> None:
        self.logprob, self.steps, self.cancelled = logprob, 0, threading.Event()

    def score(self, _: Sequence[int], next_tokens: Sequence[int], top: int) -> list[TokenScore]:
        self.steps += 1
        if self.steps == 2:
            self.cancelled.set()
        return [TokenScore(token, self.logprob) for token in next_tokens]


def model_with(runtime: Runtime, model: DeviceModel) -> DeviceModel:
    """`model` with another runtime, and an empty prefix cache."""
    return DeviceModel(model.manifest, model.tokenizer, runtime)


@pytest.mark.parametrize("length", [1, 2, 64, 65, 66, 129, CONTEXT])
def test_scores_are_those_of_decode_steps(exact_model: DeviceModel, length: int) -> None:
    """For a text of any length, up to the context window; the first token has none."""
    found = exact_model.score(TOKENS[:length], top=20)
    assert found[0] == TokenScore(TOKENS[0], None)
    assert_close(found, scores_one_by_one(exact_model.runtime, TOKENS[:length], 20))


def test_a_model_without_the_signature_gives_the_same_scores(exact_model: DeviceModel) -> None:
    """Token by token, and it can be cancelled after each."""
    older = model_with(
        Runtime(OlderBackend(exact_model.runtime.backend), exact_model.runtime.architecture),
        exact_model,
    )
    assert older.runtime.score_chunk == 1
    assert_close(older.score(TOKENS[:100], top=5), exact_model.score(TOKENS[:100], top=5))


def test_likeliest_tokens_are_given_only_where_asked(exact_model: DeviceModel) -> None:
    """As many as asked, likeliest first; none by default."""
    assert all(not score.top for score in exact_model.score(TOKENS[:5]))
    for score in exact_model.score(TOKENS[:5], top=3)[1:]:
        assert len(score.top) == 3
        assert sorted(score.top, key=lambda entry: -entry[1]) == list(score.top)


def test_a_generation_continues_after_a_score(
    model: DeviceModel, uncached: DeviceModel, runtime: RecordingRuntime
) -> None:
    """The text's tokens are in the prefix cache: only the last one is processed, with the same answer."""
    request = token_request(TOKENS[:130], 5, temperature=0)
    model.score(TOKENS[:130])
    runtime.take_processed()
    found = list(model.stream_tokens(request))
    assert runtime.take_processed() == [TOKENS[129], *found[:-1]]
    assert found == list(uncached.stream_tokens(request))


def test_a_cached_prefix_does_not_change_scores(exact_model: DeviceModel) -> None:
    """No logits are kept with it."""
    model = model_with(exact_model.runtime, exact_model)
    expected = model.score(TOKENS[:100], top=2)
    assert model.cached_prefix(TOKENS[:100]) == 99
    assert model.score(TOKENS[:100], top=2) == expected


def test_unaligned_rows_are_copied_into_the_cache(exact_model: DeviceModel) -> None:
    """With the same scores and rows as when a step writes them in place."""
    in_place = exact_model.runtime
    copying = Runtime(in_place.backend, in_place.architecture)
    copying.attention.writes_in_place = False
    sessions = [runtime.session() for runtime in (in_place, copying)]
    for start in (0, 50):
        tokens = TOKENS[start : start + 50]
        expected, found = (session.score(tokens, tokens, 4) for session in sessions)
        assert found == expected
    np.testing.assert_array_equal(sessions[1].cache.rows, sessions[0].cache.rows)


def test_a_failed_score_is_tried_again_without_the_prefix_cache(
    model: DeviceModel, runtime: RecordingRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Perhaps memory was short. Once, and only where that frees some."""
    score, failures = runtime.score, [MemoryError()]

    def scarce(*arguments: Any) -> dict[str, Any]:
        if failures:
            raise failures.pop()
        return score(*arguments)

    monkeypatch.setattr(runtime, "score", scarce)
    with pytest.raises(RuntimeFailedError, match="scoring failed"):
        model.score(TOKENS[:40])
    list(model.stream_tokens(token_request(TOKENS[:40], 1)))
    failures.append(MemoryError())
    assert len(model.score(TOKENS[:40])) == 40


def test_a_score_can_be_cancelled_between_chunks(exact_model: DeviceModel) -> None:
    """It ends with the scores so far."""
    session = Watched()
    found = score_tokens(session, TOKENS, 0, chunk=64, cancelled=session.cancelled)
    assert session.steps == 2
    assert len(found) == 129
    assert len(exact_model.score(TOKENS, cancelled=session.cancelled)) == 1


def test_scores_that_are_no_numbers_are_an_error() -> None:
    """The model, or the runtime, is broken."""
    with pytest.raises(RuntimeFailedError, match="NaN or infinite"):
        score_tokens(Watched(float("nan")), TOKENS, 0, chunk=64)


def test_invalid_texts_are_refused(exact_model: DeviceModel) -> None:
    """Before any work. Their tokens are not in the message: they may be private."""
    for tokens in ([], [1, 264], [-1], [1.5], [None], "ab", None, 5):
        with pytest.raises(RequestError, match="token"):
            exact_model.score(tokens)
    with pytest.raises(ContextOverflowError, match="193 tokens"):
        exact_model.score([*TOKENS, 1])
    for top in (-1, 21, 1.5, True, "5"):
        with pytest.raises(RequestError, match=r"top is .*whole number, from 0 to 20"):
            exact_model.score(TOKENS[:5], top=top)
    assert len(exact_model.score(np.array(TOKENS[:5]), top=np.int64(2))) == 5
