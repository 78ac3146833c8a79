"""Choosing the next token: a pure function that the device and the cloud share."""

import math
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewise_edge.decoding.sampling_params import SamplingParams
from edgewise_edge.errors import RuntimeFailedError

# Below this, dividing by the temperature would overflow; the likeliest token is certain anyway.
_MIN_TEMPERATURE = 1e-6
_MASK_64 = 2**64 - 1
_TOP_P_CANDIDATES = 256  # how many of the likeliest tokens are tried first for top_p
_own = threading.local()
_COLUMNS = 1024  # of the table whose columns' maxima narrow down the likeliest


def sample(
    logits: NDArray[np.float32],
    params: SamplingParams,
    history: Sequence[int],
    position: int,
    *,
    prompt_tokens: int = 0,
) -> int:
    """The token at `position`, from `logits[vocabulary]`.

    `history` holds the ids before it, for the penalties; its first `prompt_tokens` are the prompt.
    The random generator is counter-based and keyed by (seed, position): a source that continues at
    `position` draws what the first would have drawn. Raises RuntimeFailedError if the logits hold a
    NaN, or if the largest is infinite.
    """
    scores = _penalized(logits, params.repetition_penalty, history)
    if params.presence_penalty or params.frequency_penalty or params.logit_bias:
        scores = _adjusted(scores, params, history[prompt_tokens:])
    if params.temperature < _MIN_TEMPERATURE:
        likeliest = int(scores.argmax())
        _require_number(scores[likeliest])  # argmax takes a NaN for the largest number
        return likeliest
    # As few NumPy calls as possible: a model step evicts everything else from the processor's
    # caches, so each call takes ten times as long here as by itself.
    ids = _likeliest(scores, params.top_k)
    weights = np.divide(scores[ids], params.temperature, dtype=np.float64)
    largest = weights[weights.argmax()]
    _require_number(largest)
    weights = np.exp(weights - largest)
    if params.top_p < 1:
        kept = _top_p(weights, params.top_p)
        ids, weights = ids[kept], weights[kept]
    if params.min_p:
        likely = weights >= params.min_p  # the likeliest token's weight is 1
        ids, weights = ids[likely], weights[likely]
    cumulative = weights.cumsum()
    index = cumulative.searchsorted(uniform(params.seed, position) * cumulative[-1], side="right")
    if index == ids.size:  # rounding made the product equal to the sum
        index = np.flatnonzero(weights)[-1]
    return int(ids[index])


def uniform(seed: int, position: int) -> float:
    """A number in [0, 1): the first that NumPy's Philox(key=(seed, position)) draws.

    Philox4x64-10 (Salmon et al., Parallel Random Numbers: As Easy as 1, 2, 3, SC 2011). NumPy's own
    asks the system for entropy at construction, which after a model step takes ten times as long as
    this code.
    """
    a, b, c, d = 1, 0, 0, 0
    for _ in range(10):
        first, second = a * 0xD2E7470EE14C6C93, c * 0xCA5A826395121157
        a, b = second >> 64 ^ b ^ seed, second & _MASK_64
        c, d = first >> 64 ^ d ^ position, first & _MASK_64
        seed, position = (
            seed + 0x9E3779B97F4A7C15 & _MASK_64,
            position + 0xBB67AE8584CAA73B & _MASK_64,
        )
    return (a >> 11) * 2.0**-53


def _require_number(score: np.floating) -> None:
    if not math.isfinite(score):
        raise RuntimeFailedError(
            "the model returned NaN or infinite logits; its file or this runtime is broken"
        )


def _penalized(
    scores: NDArray[np.float32], penalty: float, history: Sequence[int]
) -> NDArray[np.float32]:
    if penalty == 1 or not history:
        return scores
    seen = np.fromiter(history, dtype=np.int64)
    penalized = _copied(scores)
    penalized[seen] = np.where(scores[seen] > 0, scores[seen] / penalty, scores[seen] * penalty)
    return penalized


def _adjusted(
    scores: NDArray[np.float32], params: SamplingParams, generated: Sequence[int]
) -> NDArray[np.float32]:
    """With the penalties and biases of OpenAI's API."""
    adjusted = _copied(scores)
    if generated and (params.presence_penalty or params.frequency_penalty):
        seen, counts = np.unique(np.asarray(generated, np.int64), return_counts=True)
        adjusted[seen] -= params.presence_penalty + params.frequency_penalty * counts
    if params.logit_bias:
        adjusted[list(params.logit_bias)] += list(params.logit_bias.values())
    return adjusted


def _copied(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """In memory of this thread's own, which its next call overwrites.

    A new array as large as GPT-2's vocabulary may be mapped, page by page, and unmapped for each token.
    """
    kept: NDArray[np.float32] | None = getattr(_own, "scores", None)
    if kept is None or kept.shape != scores.shape or kept.dtype != scores.dtype:
        kept = _own.scores = np.empty_like(scores)
    np.copyto(kept, scores)
    return kept


def _likeliest(scores: NDArray[Any], count: int) -> NDArray[np.int64]:
    """The indices, ascending, of the `count` largest scores (0: all) and of ties with the last.

    Partitions, because sorting a whole vocabulary takes longer than the model's step. So does, behind
    a step, partitioning it: where few are wanted, the maxima of a thousand columns are partitioned
    instead. As many scores as are wanted reach the last of these maxima, and few others do.
    """
    if not 0 < count < scores.size:
        return np.arange(scores.size)
    if count > _COLUMNS // 4 or scores.size < 4 * _COLUMNS:
        return _reaching(_least(scores.copy(), count), scores)
    likely = _reaching(_least(_maxima(scores), count), scores)
    if likely.size == count:
        return likely
    some = scores[likely]
    return likely[_reaching(_least(some.copy(), count), some)]


def _reaching(least: Any, scores: NDArray[Any]) -> NDArray[np.int64]:
    indices: NDArray[np.int64] = (scores >= least).nonzero()[0]
    return indices


def _maxima(scores: NDArray[Any]) -> NDArray[Any]:
    """Those of the columns, where `scores` fill a table row by row; NaN where one of them is."""
    whole = scores.size // _COLUMNS * _COLUMNS
    maxima: NDArray[Any] = np.maximum.reduce(scores[:whole].reshape(-1, _COLUMNS))
    begun = maxima[: scores.size - whole]
    np.maximum(begun, scores[whole:], out=begun)
    return maxima


def _least(scores: NDArray[Any], count: int) -> Any:
    """The least of the `count` largest, which are moved to the end.

    Raises RuntimeFailedError where the largest is no number.
    """
    scores.partition(scores.size - count)
    largest = scores[-count:]
    _require_number(largest[largest.argmax()])  # both take a NaN for the largest
    return largest[0]


def _top_p(weights: NDArray[np.float64], p: float) -> NDArray[np.int64]:
    """The indices of the fewest largest weights whose share reaches `p` (arXiv:1904.09751)."""
    count, probabilities = _TOP_P_CANDIDATES, weights / weights.sum()
    while True:
        some = _likeliest(probabilities, count if count < probabilities.size else 0)
        order = some[np.argsort(-probabilities[some], kind="stable")]
        reached = probabilities[order].cumsum()
        if reached[-1] >= p or some.size == probabilities.size:
            return np.sort(order[: np.searchsorted(reached, p) + 1])
        count *= 8
