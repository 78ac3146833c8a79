"""Scoring a given text: how likely the model finds each of its tokens."""

import math
import threading
from collections.abc import Iterable, Sequence
from typing import Protocol

from edgewise_edge.checks import Range, plain_number
from edgewise_edge.decoding.token_score import TokenScore
from edgewise_edge.errors import ContextOverflowError, RequestError, RuntimeFailedError


class ScoreSession(Protocol):
    """What score_tokens() needs of a session (runtime.session.Session)."""

    def score(
        self, tokens: Sequence[int], next_tokens: Sequence[int], top: int, /
    ) -> list[TokenScore]:
        """Process at least one token; the scores of those that follow each."""


def checked_ids(
    token_ids: Sequence[int], context_window: int, vocabulary_size: int
) -> tuple[int, ...]:
    """`token_ids` as integers.

    Raises RequestError unless they are ids of the vocabulary, at least one, and
    ContextOverflowError for more than the context window.
    """
    if isinstance(token_ids, str) or not isinstance(token_ids, Iterable):
        raise RequestError(
            f"token_ids is of type {type(token_ids).__name__}; it must be a sequence of token ids"
        )
    ids = tuple(map(plain_number, token_ids))
    if not ids:
        raise RequestError("token_ids is empty; give at least one token")
    if len(ids) > context_window:
        raise ContextOverflowError(len(ids), context_window)
    allowed = Range(0, vocabulary_size - 1, whole=True)
    if not all(token in allowed for token in ids):
        raise RequestError(f"a token id is not in the vocabulary of {vocabulary_size} tokens")
    return ids  # type: ignore[return-value]  # checked just now


def score_tokens(
    session: ScoreSession,
    token_ids: Sequence[int],
    top: int,
    *,
    chunk: int,
    cancelled: threading.Event | None = None,
) -> tuple[TokenScore, ...]:
    """The scores of checked `token_ids` in an empty `session`, which processes all but the last.

    Setting `cancelled` from any thread stops it after the current chunk of `chunk` tokens: there are
    then fewer scores than tokens. Raises RuntimeFailedError, also where a score is no number.
    """
    stop = cancelled or threading.Event()
    scores = [TokenScore(token_ids[0], None)]
    for start in range(0, len(token_ids) - 1, chunk):
        if stop.is_set():
            break
        following = token_ids[start + 1 : start + 1 + chunk]
        scores += session.score(token_ids[start : start + len(following)], following, top)
        if not all(math.isfinite(score.logprob or 0) for score in scores[start + 1 :]):
            raise RuntimeFailedError(
                "the model returned NaN or infinite logits; its file or this runtime is broken"
            )
    return tuple(scores)
