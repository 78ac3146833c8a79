"""From prompt ids to token ids, one at a time; the words both sides use for it."""

import threading
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edgewise_edge.decoding.sampling import SamplingParams, sample
from edgewise_edge.errors import ContextOverflowError, RequestError


class FinishReason(StrEnum):
    """Why a generation ended."""

    STOP = "stop"  # a stop string or an end token
    LENGTH = "length"  # max_tokens reached, or the end of the context window
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

    A text ends with its context window, unless it is a `sliding_window`: then the last half of it
    is read anew and the text goes on, without what came before.
    """

    token_ids: tuple[int, ...] = field(repr=False)  # what was typed: not for logs and tracebacks
    prompt_tokens: int
    max_tokens: int
    sampling: SamplingParams
    end_ids: frozenset[int] = frozenset()
    sliding_window: bool = False

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
        if self.prompt_tokens >= context_window or (
            self.position >= context_window and not self.sliding_window
        ):
            raise ContextOverflowError(self.position, context_window)
        if not 0 <= min(self.token_ids) <= max(self.token_ids) < vocabulary_size:
            raise RequestError(f"a token id is not in the vocabulary of {vocabulary_size}")

    def require_room(self, context_window: int) -> None:
        """Raise ContextOverflowError unless all of it fits, as a service wants it."""
        if self.position + self.max_tokens > context_window:
            raise ContextOverflowError(self.position, context_window, self.max_tokens)


class StepSession(Protocol):
    """A model reading one text (runtime.Session)."""

    @property
    def position(self) -> int:
        """Tokens it has read."""

    def restart(self) -> None:
        """Forget them."""

    def read(self, tokens: Sequence[int], /) -> NDArray[np.float32]:
        """Read at least one token; the logits of the one after them."""


def generate_tokens(
    session: StepSession,
    request: TokenRequest,
    *,
    chunk: int,
    context_window: int,
    cancelled: threading.Event | None = None,
) -> Generator[int, None, None]:
    """The new tokens of a checked `request`, its prompt read `chunk` tokens at a time.

    `session` may have read a beginning of the prompt already. Ends after `max_tokens`, with the
    context window, or with the first of `end_ids`, which it still yields. Closing the iterator
    stops the work, as does setting `cancelled`, from any thread, after the step in hand.
    """
    stop = cancelled or threading.Event()
    history, new = list(request.token_ids), request.token_ids[session.position :]
    room = request.max_tokens if request.sliding_window else context_window - request.position
    for _ in range(min(request.max_tokens, room)):
        if session.position + len(new) > context_window:
            session.restart()
            new = tuple(history[-max(1, context_window // 2) :])
        for start in range(0, len(new), chunk):
            if stop.is_set():
                return
            logits = session.read(new[start : start + chunk])
        token = sample(logits, request.sampling, history, position=len(history))
        history.append(token)
        new = (token,)
        yield token
        if token in request.end_ids:
            return
