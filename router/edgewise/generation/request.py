"""What an app asks for, checked and in the router's terms."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypedDict, TypeVar

from edgewise.errors import ConfigurationError
from edgewise.policy.types import Mode, Privacy
from edgewise_edge import RequestError, SamplingParams, TokenRequest

DEFAULT_MAX_TOKENS = 128
MOST_MAX_TOKENS = 2**31 - 1
MOST_SECONDS = 10**6  # what clocks and gRPC can wait for


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
    hedge_after: float | None  # seconds without a token after which the other side is asked too
    sliding_window: bool | None  # go on beyond the device's context window, without the beginning


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudTokenRequest(TokenRequest):
    """A TokenRequest that may leave the device: the only kind that the cloud's side takes.

    It is made by AllowCloudRequest and by nothing else.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request, complete: a PrivateRequest or an AllowCloudRequest.

    Its text shows in no `repr`, and so in no log or traceback.
    """

    privacy: ClassVar[Privacy]

    prompt_ids: tuple[int, ...] = field(repr=False)
    max_tokens: int
    sampling: SamplingParams
    stop: tuple[str, ...] = field(repr=False)
    mode: Mode
    first_token_budget: float | None
    latency_budget: float | None
    hedge_after: float | None = None
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
        for name in ("first_token_budget", "latency_budget", "hedge_after"):
            budget = getattr(self, name)
            if budget is not None and not (
                isinstance(budget, int | float) and 0 < budget <= MOST_SECONDS
            ):
                raise RequestError(
                    f"{name} is {budget!r}; it must be a number of seconds above 0 and at most "
                    f"{MOST_SECONDS}"
                )

    def tokens(self, generated: Sequence[int], left: int, end_ids: frozenset[int]) -> TokenRequest:
        """What a side is asked: `left` more tokens after those that were `generated`."""
        return TokenRequest(**self._fields(generated, left, end_ids))

    def _fields(
        self, generated: Sequence[int], left: int, end_ids: frozenset[int]
    ) -> dict[str, Any]:
        return {
            "token_ids": (*self.prompt_ids, *generated),
            "prompt_tokens": len(self.prompt_ids),
            "max_tokens": left,
            "sampling": self.sampling,
            "end_ids": end_ids,
            "sliding_window": self.sliding_window,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivateRequest(Request):
    """A request that never leaves the device. What it asks for, the cloud's side does not take."""

    privacy: ClassVar[Privacy] = Privacy.PRIVATE


@dataclass(frozen=True, slots=True, kw_only=True)
class AllowCloudRequest(Request):
    """A request that may leave the device."""

    privacy: ClassVar[Privacy] = Privacy.ALLOW_CLOUD

    def tokens(
        self, generated: Sequence[int], left: int, end_ids: frozenset[int]
    ) -> CloudTokenRequest:
        """See Request."""
        return CloudTokenRequest(**self._fields(generated, left, end_ids))


AnyRequest = PrivateRequest | AllowCloudRequest

Word = TypeVar("Word", Mode, Privacy)


def word(kind: type[Word], value: str) -> Word:
    """The enum's member of that name; raises ConfigurationError naming those there are."""
    try:
        return kind(value)
    except ValueError as error:
        raise ConfigurationError(
            f"'{value}' is no {kind.__name__.lower()}; choose one of {', '.join(kind)}"
        ) from error
