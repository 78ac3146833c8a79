"""Generating tokens with a device model."""

import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from edgewise_edge import (
    ContextOverflowError,
    DeviceModel,
    RequestError,
    SamplingParams,
    TokenRequest,
)
from tests.conftest import CONTEXT, token_request

TOKENS = [int(token) for token in np.random.default_rng(1).integers(0, 250, CONTEXT)]


def test_a_continuation_draws_what_the_unbroken_run_drew(exact_model: DeviceModel) -> None:
    """Stopped anywhere and continued with the tokens so far, the answer is the same."""
    settings = {"temperature": 1.0, "top_k": 0, "seed": 3, "repetition_penalty": 1.3}
    unbroken = list(exact_model.stream_tokens(token_request(TOKENS[:10], 40, **settings)))
    for cut in (1, 17, 39):
        resumed = token_request([*TOKENS[:10], *unbroken[:cut]], 40 - cut, **settings)
        assert list(exact_model.stream_tokens(resumed)) == unbroken[cut:]


def test_the_whole_window_can_be_used(exact_model: DeviceModel) -> None:
    """Prompt and answer may fill the context window to the last token, where generation ends."""
    space = CONTEXT - 100
    tokens = list(exact_model.stream_tokens(token_request(TOKENS[:100], space)))
    assert len(tokens) == space
    more = list(exact_model.stream_tokens(token_request(TOKENS[:100], 10 * CONTEXT)))
    assert more == tokens
    with pytest.raises(ContextOverflowError, match=str(CONTEXT)):
        exact_model.stream_tokens(token_request(TOKENS[:CONTEXT], 1))


def test_a_sliding_window_continues_from_the_last_half(exact_model: DeviceModel) -> None:
    """Twice over the end of the window, each time as if that half were the whole text."""
    request = dataclasses.replace(
        token_request(TOKENS[:150], 200, temperature=0), sliding_window=True
    )
    found = list(exact_model.stream_tokens(request))
    text, session, new = TOKENS[:150], exact_model.runtime.session(), TOKENS[:150]
    for _ in range(200):
        if session.position + len(new) > CONTEXT:
            session, new = exact_model.runtime.session(), text[-CONTEXT // 2 :]
        for start in range(0, len(new), 128):
            logits = session.forward(new[start : start + 128])
        text.append(int(logits.argmax()))
        new = text[-1:]
    assert found == text[150:]


def test_invalid_requests_are_refused_at_once(exact_model: DeviceModel) -> None:
    """An empty prompt, no tokens wanted, ids that do not exist."""
    for tokens, count in (([], 1), ([1], 0), ([1], -5), ([100_000], 1)):
        with pytest.raises(RequestError):
            exact_model.stream_tokens(token_request(tokens, count))


def test_concurrent_requests_do_not_disturb_each_other(exact_model: DeviceModel) -> None:
    """Answers to prompts of different lengths are those of requests run one after the other."""
    lengths = (1, 30, 64, 100, 150)
    requests = [token_request(TOKENS[n : n + n], 40, seed=n) for n in lengths]
    expected = [list(exact_model.stream_tokens(request)) for request in requests]
    model = DeviceModel(exact_model.manifest, exact_model.tokenizer, exact_model.runtime, 0)

    def generate(request: TokenRequest) -> list[int]:
        return list(model.stream_tokens(request))

    with ThreadPoolExecutor(len(lengths)) as pool:
        assert list(pool.map(generate, requests)) == expected


def test_closing_stops_between_tokens(exact_model: DeviceModel) -> None:
    """A closed generator yields nothing more."""
    tokens = exact_model.stream_tokens(token_request(TOKENS[:5], 50))
    next(tokens)
    tokens.close()
    assert list(tokens) == []


def test_prefill_can_be_cancelled(exact_model: DeviceModel) -> None:
    """Before the first token, from another thread."""
    cancelled = threading.Event()
    cancelled.set()
    assert list(exact_model.stream_tokens(token_request(TOKENS[:100], 5), cancelled)) == []


def test_generation_stops_after_an_end_token(exact_model: DeviceModel) -> None:
    """The end token is yielded, so that a caller that counts positions sees it."""
    unbroken = list(exact_model.stream_tokens(token_request(TOKENS[:5], 20, seed=1)))
    end = unbroken[7]
    ending = TokenRequest(
        token_ids=tuple(TOKENS[:5]),
        prompt_tokens=5,
        max_tokens=20,
        sampling=SamplingParams(seed=1),
        end_ids=frozenset({end}),
    )
    assert list(exact_model.stream_tokens(ending)) == unbroken[: unbroken.index(end) + 1]


@pytest.mark.parametrize("threads", [0, -1, -4])
def test_too_few_threads_are_refused(exact_folder: Path, threads: int) -> None:
    """Before anything is loaded."""
    with pytest.raises(RequestError, match=f"threads is {threads}"):
        DeviceModel.load(exact_folder, threads=threads)
