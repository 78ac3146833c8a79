"""From prompt ids to token ids, one at a time; the words both sides use for it."""

import threading
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edgewise_edge.errors import ContextOverflowError, RequestError
from edgewise_edge.sampling import SamplingParams, sample


class FinishReason(StrEnum):
    """Why a generation ended."""

    STOP = "stop"  # a stop string or an end token
    LENGTH = "length"  # max_tokens reached
    CANCELLED = "cancelled"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens read and written."""

    prompt_tokens: int
    completion_tokens: int

    @property
    def total_tokens(self) -> int:
        """Both together."""
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRequest:
    """What either side needs to know to write tokens.

    `token_ids` is the prompt followed by whatever has been generated already, so a request made
    half way is a continuation at `position` = len(token_ids). `max_tokens` counts new tokens.
    """

    token_ids: tuple[int, ...]
    prompt_tokens: int
    max_tokens: int
    sampling: SamplingParams
    end_ids: frozenset[int] = frozenset()

    @property
    def position(self) -> int:
        """Where the next token goes."""
        return len(self.token_ids)

    def check(self, context_window: int, vocabulary_size: int) -> None:
        """Raise RequestError for what no model of these sizes can answer."""
        if not self.token_ids:
            raise RequestError("the prompt is empty; give at least one character")
        if self.max_tokens < 1:
            raise RequestError(f"max_tokens is {self.max_tokens}; it must be 1 or more")
        if self.position + self.max_tokens > context_window:
            raise ContextOverflowError(self.position, self.max_tokens, context_window)
        if not 0 <= min(self.token_ids) <= max(self.token_ids) < vocabulary_size:
            raise RequestError(f"a token id is not in the vocabulary of {vocabulary_size}")


class StepSession(Protocol):
    """A model reading one text (runtime.Session, edgewise_cloud.engine.KerasSession)."""

    def prefill(self, tokens: Sequence[int], /) -> None:
        """Read tokens whose successors are known."""

    def decode(self, token: int, /) -> NDArray[np.float32]:
        """Read one token; the logits of its successor."""


def generate_tokens(
    session: StepSession,
    request: TokenRequest,
    chunk: int,
    cancelled: threading.Event | None = None,
) -> Generator[int, None, None]:
    """The new tokens of a checked `request`, prefilled `chunk` tokens at a time.

    Ends after `max_tokens`, or with the first of `end_ids`, which it still yields. Closing the
    iterator stops the work, as does setting `cancelled`, from any thread, after the step in hand.
    """
    stop = cancelled or threading.Event()
    history = list(request.token_ids)
    for start in range(0, len(history) - 1, chunk):
        if stop.is_set():
            return
        session.prefill(history[start : min(start + chunk, len(history) - 1)])
    for _ in range(request.max_tokens):
        if stop.is_set():
            return
        logits = session.decode(history[-1])
        token = sample(logits, request.sampling, history, position=len(history))
        history.append(token)
        yield token
        if token in request.end_ids:
            return
