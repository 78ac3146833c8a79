"""How to choose tokens: the settings, and their checks."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgewise_edge.checks import SAMPLING_RANGES, Range, check_fields, plain_number, shown
from edgewise_edge.errors import RequestError

MAX_BIASED = 1024  # tokens with a logit_bias: they are looked up for each new token
_BIAS = Range(-100, 100)
_TOKEN_ID = Range(0, 2**31 - 1, whole=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """How to choose tokens. Raises RequestError for values out of range.

    `presence_penalty` is taken from the logit of each token that was generated before, and
    `frequency_penalty` once for each time it was; the prompt does not count. `logit_bias` is added to
    the logits of these tokens. All three come after `repetition_penalty`, before the temperature.
    After the temperature come `top_k`, `top_p` and `min_p`, in this order, as in Hugging Face's
    transformers.
    """

    temperature: float = 0.8  # 0: always the likeliest token
    top_k: int = 40  # 0: no limit
    top_p: float = 1.0
    repetition_penalty: float = 1.0  # 1: none; of CTRL (arXiv:1909.05858), over prompt and answer
    seed: int = 0
    presence_penalty: float = 0.0  # -2 to 2; 0: none; OpenAI's, over the answer only
    frequency_penalty: float = 0.0  # the same
    # -100 to 100, by token id. Not in a repr: like a stop string, it may tell of the text.
    logit_bias: Mapping[int, float] = field(default_factory=dict, repr=False, hash=False)
    # 0 to 1, of the likeliest token's probability (arXiv:2407.01082); 0: no limit.
    min_p: float = 0.0

    def __post_init__(self) -> None:
        """Check."""
        check_fields(self, SAMPLING_RANGES, RequestError)
        # A copy, also of an empty one: the caller may change its own.
        object.__setattr__(self, "logit_bias", _checked_bias(self.logit_bias))

    def check(self, vocabulary_size: int) -> None:
        """Raise RequestError for a bias of a token that a vocabulary of this size does not have."""
        if self.logit_bias and max(self.logit_bias) >= vocabulary_size:
            raise RequestError(
                f"logit_bias names token {max(self.logit_bias)}; ids are below {vocabulary_size} in "
                "this model's vocabulary"
            )


def sampling_params(recommended: Mapping[str, float], chosen: Mapping[str, Any]) -> SamplingParams:
    """`chosen` over `recommended`, where None is not chosen. Without a seed, a random one.

    Raises RequestError for unknown settings and for values out of range.
    """
    given = {name: value for name, value in chosen.items() if value is not None}
    try:
        return SamplingParams(**{"seed": _random_seed(), **recommended, **given})
    except TypeError as error:
        raise RequestError(f"a sampling setting is unknown: {error}") from error


def _random_seed() -> int:
    return int.from_bytes(os.urandom(8)) >> 1  # at most MAX_SEED


def _checked_bias(bias: object) -> dict[int, float]:
    if not isinstance(bias, Mapping):
        raise RequestError(
            f"logit_bias is {shown(bias)}; it must be a dict of token ids and numbers"
        )
    if len(bias) > MAX_BIASED:
        raise RequestError(f"logit_bias has {len(bias)} tokens; at most {MAX_BIASED} are possible")
    checked: dict[int, float] = {}
    for token, value in bias.items():
        id_ = plain_number(token)
        if id_ not in _TOKEN_ID or not isinstance(id_, int):
            raise RequestError(f"logit_bias names {shown(token)}; it must be a token id, 0 or more")
        checked[id_] = float(_BIAS.check(f"logit_bias of token {id_}", value, RequestError))
    return checked
