"""What an app asks for, checked and in the router's terms."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict, TypeVar

from edgewise.errors import ConfigurationError
from edgewise.policy import Mode, Privacy
from edgewise_edge import RequestError, SamplingParams

DEFAULT_MAX_TOKENS = 128
MOST_MAX_TOKENS = 2**31 - 1


class RequestOptions(TypedDict, total=False):
    """Options of one request; all may be left out, None means the same as leaving out."""

    max_tokens: int | None
    temperature: float | None
    top_k: int | None
    top_p: float | None
    repetition_penalty: float | None
    seed: int | None
    stop: Sequence[str] | str | None
    mode: Mode | str | None
    privacy: Privacy | str | None
    first_token_budget: float | None  # seconds
    latency_budget: float | None  # seconds
    sliding_window: bool | None  # go on beyond the device's context window, without the beginning


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request, complete."""

    prompt_ids: tuple[int, ...]
    max_tokens: int
    sampling: SamplingParams
    stop: tuple[str, ...]
    mode: Mode
    privacy: Privacy
    first_token_budget: float | None
    latency_budget: float | None
    sliding_window: bool = False

    def __post_init__(self) -> None:
        """Raise RequestError for what neither side could answer."""
        if not self.prompt_ids:
            raise RequestError("the prompt is empty; give at least one character")
        if not isinstance(self.max_tokens, int):
            raise RequestError(f"max_tokens is {self.max_tokens!r}; it must be a whole number")
        if not 1 <= self.max_tokens <= MOST_MAX_TOKENS:
            raise RequestError(
                f"max_tokens is {self.max_tokens}; it must be from 1 to {MOST_MAX_TOKENS}"
            )
        for name in ("first_token_budget", "latency_budget"):
            budget = getattr(self, name)
            if budget is not None and not (math.isfinite(budget) and budget > 0):
                raise RequestError(f"{name} is {budget}; it must be a number of seconds above 0")


Word = TypeVar("Word", Mode, Privacy)


def word(kind: type[Word], value: str) -> Word:
    """The enum's member of that name; raises ConfigurationError naming those there are."""
    try:
        return kind(value)
    except ValueError as error:
        raise ConfigurationError(
            f"'{value}' is no {kind.__name__.lower()}; choose one of {', '.join(kind)}"
        ) from error
