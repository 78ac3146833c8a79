"""The token loop: prompt ids in, new token ids out."""

import threading
from collections.abc import Callable, Generator, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edgewise_edge.decoding.logprobs import token_score
from edgewise_edge.decoding.request import TokenRequest
from edgewise_edge.decoding.sampling import sample
from edgewise_edge.decoding.token_score import TokenScore

OnScore = Callable[[TokenScore], object]


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
