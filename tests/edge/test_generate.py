"""The token loop, on a session with scripted logits."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from edgewise_edge import RequestError, SamplingParams, TokenRequest, TokenScore
from edgewise_edge.decoding.generate import generate_tokens
from edgewise_edge.decoding.logprobs import token_score

SIZE, WINDOW = 12, 64


class Steps:
    """A session whose logits depend on the position alone, in an array that each step overwrites."""

    def __init__(self, position: int = 0) -> None:
        self.position = position
        self._logits = np.zeros(SIZE, np.float32)

    def restart(self) -> None:
        self.position = 0

    def forward(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        self.position += len(tokens)
        self._logits[:] = logits_after(self.position)
        return self._logits


def logits_after(position: int) -> NDArray[np.float32]:
    return np.random.default_rng(position).normal(0, 1, SIZE).astype(np.float32)


def new_request(
    max_tokens: int = 12, logprobs: int | None = None, **sampling: object
) -> TokenRequest:
    return TokenRequest(
        token_ids=(3, 3, 3),
        prompt_tokens=3,
        max_tokens=max_tokens,
        sampling=SamplingParams(**{"temperature": 1.0, "seed": 5, **sampling}),
        logprobs=logprobs,
    )


def generate(request: TokenRequest, heard: list[TokenScore] | None = None) -> list[int]:
    """The tokens; each one's score must be there when it comes."""
    tokens = []
    for token in generate_tokens(
        Steps(),
        request,
        chunk=8,
        context_window=WINDOW,
        on_score=None if heard is None else heard.append,
    ):
        tokens.append(token)
        if heard:
            assert len(heard) == len(tokens)
    return tokens


def test_each_token_comes_after_its_score_by_the_model_itself() -> None:
    """Whatever temperature, penalties and biases made of it."""
    heard: list[TokenScore] = []
    request = new_request(logprobs=2, temperature=3.0, presence_penalty=1.0, logit_bias={0: 5})
    tokens = generate(request, heard)
    assert heard == [token_score(logits_after(3 + n), token, 2) for n, token in enumerate(tokens)]


def test_nothing_is_scored_unless_asked_for() -> None:
    """A loop without `logprobs` calls nobody."""
    heard: list[TokenScore] = []
    assert generate(new_request(), heard) == generate(new_request(logprobs=0))
    assert not heard


@pytest.mark.parametrize("cut", [1, 5, 11])
def test_source_that_continues_counts_what_the_first_generated(cut: int) -> None:
    """With penalties, a handoff at any token gives what the unbroken run would have given."""
    request = new_request(frequency_penalty=0.7, presence_penalty=0.4, repetition_penalty=1.2)
    unbroken = generate(request)
    assert unbroken != generate(new_request(repetition_penalty=1.2))  # the penalties matter
    first = generate(replace(request, max_tokens=cut))
    rest = replace(request, token_ids=(*request.token_ids, *first), max_tokens=12 - cut)
    assert first + generate(rest) == unbroken


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (new_request(logprobs=21), "logprobs is 21; it must be a whole number, from 0 to 20"),
        (new_request(logit_bias={SIZE: 1}), f"names token {SIZE}; ids are below {SIZE}"),
    ],
)
def test_model_refuses_what_it_cannot_score_or_bias(request_: TokenRequest, words: str) -> None:
    """Before anything runs."""
    with pytest.raises(RequestError, match=words):
        request_.check(WINDOW, SIZE)
