"""The token loop: prompt ids in, new token ids out. The device and the cloud share its types."""

import threading
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edgewise_edge.decoding.logprobs import TOP, TokenScore, token_score
from edgewise_edge.decoding.sampling import SamplingParams, sample
from edgewise_edge.errors import ContextOverflowError, RequestError

OnScore = Callable[[TokenScore], object]


class FinishReason(StrEnum):
    """Why a generation ended."""

    STOP = "stop"  # a stop string or an end token
    LENGTH = "length"  # max_tokens reached, or the end of the context window
    CANCELLED = "cancelled"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of the prompt and of the answer."""

    prompt_tokens: int
    completion_tokens: int

    @property
    def total_tokens(self) -> int:
        """Their sum."""
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRequest:
    """What a source needs to generate tokens.

    `token_ids` is the prompt followed by what has been generated so far, so that any source can
    continue at `position` = len(token_ids). `max_tokens` counts new tokens.

    Generation ends at the context window. With `sliding_window` it continues there: the last half
    of the window is prefilled again and everything before it is dropped.

    `logprobs` asks for each new token's log-probability and those of so many likeliest ones, up to 20
    (None: for none).
    """

    token_ids: tuple[int, ...] = field(repr=False)  # user text: kept out of logs and tracebacks
    prompt_tokens: int
    max_tokens: int
    sampling: SamplingParams
    end_ids: frozenset[int] = frozenset()
    sliding_window: bool = False
    logprobs: int | None = None

    @property
    def position(self) -> int:
        """Where the next token goes."""
        return len(self.token_ids)

    def check(self, context_window: int, vocabulary_size: int) -> None:
        """Raise RequestError if no model of these sizes can answer the request."""
        if not self.token_ids:
            raise RequestError(
                "token_ids is empty; give at least one, such as the end-of-text token, which begins a "
                "new text"
            )
        if self.max_tokens < 1:
            raise RequestError(f"max_tokens is {self.max_tokens}; it must be 1 or more")
        if self.prompt_tokens >= context_window or (
            self.position >= context_window and not self.sliding_window
        ):
            raise ContextOverflowError(self.position, context_window)
        if not 0 <= min(self.token_ids) <= max(self.token_ids) < vocabulary_size:
            raise RequestError(f"a token id is not in the vocabulary of {vocabulary_size} tokens")
        if self.logprobs is not None:
            TOP.check("logprobs", self.logprobs, RequestError)
        self.sampling.check(vocabulary_size)

    def require_room(self, context_window: int) -> None:
        """Raise ContextOverflowError unless the tokens so far and `max_tokens` fit together."""
        if self.position + self.max_tokens > context_window:
            raise ContextOverflowError(self.position, context_window, self.max_tokens)


class StepSession(Protocol):
    """What generate_tokens() needs of a session (runtime.session.Session)."""

    @property
    def position(self) -> int:
        """Tokens processed so far."""

    def restart(self) -> None:
        """Drop all tokens."""

    def forward(self, tokens: Sequence[int], /) -> NDArray[np.float32]:
        """Process at least one token; the logits of the next one, until the next call."""


def generate_tokens(
    session: StepSession,
    request: TokenRequest,
    *,
    chunk: int,
    context_window: int,
    cancelled: threading.Event | None = None,
    on_score: OnScore | None = None,
) -> Generator[int, None, None]:
    """The new tokens of a checked `request`; the prompt is prefilled in chunks of `chunk` tokens.

    Where the request asks for `logprobs`, `on_score` is called just before each token is yielded.
    `session` may have processed a prefix of the prompt already. Ends after `max_tokens`, at the
    context window, or after the first of `end_ids`, which is yielded too. Closing the iterator, or
    setting `cancelled` from any thread, stops it after the current step.
    """
    stop = cancelled or threading.Event()
    history, new = list(request.token_ids), request.token_ids[session.position :]
    space = request.max_tokens if request.sliding_window else context_window - request.position
    for _ in range(min(request.max_tokens, space)):
        if session.position + len(new) > context_window:
            session.restart()
            new = tuple(history[-max(1, context_window // 2) :])
        for start in range(0, len(new), chunk):
            if stop.is_set():
                return
            logits = session.forward(new[start : start + chunk])
        token = sample(
            logits,
            request.sampling,
            history,
            position=len(history),
            prompt_tokens=request.prompt_tokens,
        )
        if on_score and request.logprobs is not None:
            on_score(token_score(logits, token, request.logprobs))
        history.append(token)
        new = (token,)
        yield token
        if token in request.end_ids:
            return
