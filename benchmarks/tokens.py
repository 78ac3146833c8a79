"""Requests to the edge runtime by token ids, and how long they take."""

import time
from collections.abc import Sequence
from typing import Any

from edgewise_edge import DeviceModel, SamplingParams, TokenRequest

GREEDY = SamplingParams(temperature=0)


def request(
    token_ids: Sequence[int], max_tokens: int, sampling: SamplingParams = GREEDY, **options: Any
) -> TokenRequest:
    """`max_tokens` more after a prompt."""
    return TokenRequest(
        token_ids=tuple(token_ids),
        prompt_tokens=len(token_ids),
        max_tokens=max_tokens,
        sampling=sampling,
        **options,
    )


def timed(model: DeviceModel, asked: TokenRequest) -> tuple[float, float]:
    """Seconds to the first token, and from one token to the next on average (0 for one token)."""
    started = time.perf_counter()
    times = [time.perf_counter() for _ in model.stream_tokens(asked)]
    return times[0] - started, (times[-1] - times[0]) / max(1, len(times) - 1)
