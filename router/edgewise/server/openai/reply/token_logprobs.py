"""Tokens' log-probabilities as chat completions and responses write them."""

from collections.abc import Iterable
from typing import Any

from edgewise.server.openai.reply.tokens import finite, token_bytes, token_name
from edgewise_edge import Tokenizer
from edgewise_edge.decoding.token_score import TokenScore


def token_logprobs(scores: Iterable[TokenScore], tokenizer: Tokenizer) -> list[dict[str, Any]]:
    """One object for each token."""

    def written(token_id: int, logprob: float) -> dict[str, Any]:
        return {
            "token": token_name(tokenizer, token_id),
            "logprob": finite(logprob),
            "bytes": list(token_bytes(tokenizer, token_id)),
        }

    return [
        {
            **written(score.token_id, score.logprob or 0.0),
            "top_logprobs": [written(*likely) for likely in score.top],
        }
        for score in scores
    ]
