"""How likely a token was: what is told of it."""

from dataclasses import dataclass, field

from edgewise_edge.checks import Range

MAX_TOP = 20  # likeliest tokens that can be asked for at each position
TOP = Range(0, MAX_TOP, whole=True)


@dataclass(frozen=True, slots=True)
class TokenScore:
    """A token's log-probability where it stands, by the model itself: before any sampling option.

    `logprob` is a natural logarithm; None for the first token of a sequence, which nothing predicts.
    `top` holds the likeliest tokens there and their log-probabilities, likeliest first. Its `repr`
    shows no token: those of a prompt are the prompt.
    """

    token_id: int = field(repr=False)
    logprob: float | None
    top: tuple[tuple[int, float], ...] = field(default=(), repr=False)
