"""The request of an app, once its options are checked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar

from edgewise.options import REQUEST_RANGES
from edgewise.policy.types import Mode, Privacy, RoutingRequest, Source, Veto
from edgewise_edge import RequestError, SamplingParams, TokenRequest
from edgewise_edge.checks import check_fields, check_type, shown
from edgewise_edge.decoding.text import TextAssembler


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudTokenRequest(TokenRequest):
    """A TokenRequest that may leave the device: the only kind that the cloud source accepts.

    Only AllowCloudRequest makes it.
    """

    max_tokens_given: bool = True

    def fitted(self, context_window: int) -> "CloudTokenRequest":
        """With fewer new tokens where they do not fit and nobody gave their number."""
        room = context_window - self.position
        if self.max_tokens_given or not 0 < room < self.max_tokens:
            return self
        return replace(self, max_tokens=room)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A complete request: a PrivateRequest or an AllowCloudRequest.

    Its `repr` shows no content, so that logs and tracebacks hold none. Raises RequestError for
    values that neither source could serve.
    """

    privacy: ClassVar[Privacy]

    prompt_ids: tuple[int, ...] = field(repr=False)
    max_tokens: int
    max_tokens_given: bool = True  # False: it is a default, and fewer may be generated
    sampling: SamplingParams
    mode: Mode
    stop: tuple[str, ...] = field(default=(), repr=False)
    end_ids: frozenset[int] = frozenset()
    first_token_budget: float | None = None  # seconds
    latency_budget: float | None = None  # seconds
    hedge_after: float | None = None  # seconds
    sliding_window: bool = False
    logprobs: int | None = None  # of each new token, and of so many likeliest ones
    offline: bool = False  # the router's offline switch

    def __post_init__(self) -> None:
        """Check."""
        if not self.prompt_ids:
            raise RequestError(
                "the prompt is empty; give at least one token id, such as the end-of-text token's, or "
                "the text '' to begin a new text"
            )
        for name, allowed in REQUEST_RANGES.items():
            if name == "max_tokens" or getattr(self, name) is not None:
                check_fields(self, {name: allowed}, RequestError)
        check_type("sliding_window", self.sliding_window, bool, "True or False", RequestError)
        TextAssembler(self.stop)  # raises for an invalid stop string

    @property
    def budgeted(self) -> bool:
        """Whether it has a latency budget of either kind."""
        return bool(self.first_token_budget or self.latency_budget)

    @property
    def must_fit(self) -> bool:
        """Whether a source must have room for all of `max_tokens`."""
        return self.max_tokens_given or self.sliding_window  # where the device has room for all

    def changed(
        self,
        *,
        privacy: Privacy | str | None = None,
        first_token_budget: float | None = None,
        latency_budget: float | None = None,
    ) -> "Request":
        """With other budgets, or private (None: as it is). Raises RequestError."""
        if privacy is not None and not (isinstance(privacy, str) and privacy == Privacy.PRIVATE):
            raise RequestError(
                f"privacy is {shown(privacy)}; what is being generated can only become 'private'"
            )
        values = {part.name: getattr(self, part.name) for part in fields(self)}
        given = {"first_token_budget": first_token_budget, "latency_budget": latency_budget}
        values |= {name: value for name, value in given.items() if value is not None}
        return PrivateRequest(**values) if privacy else type(self)(**values)

    def after(self, generated: Sequence[int]) -> TokenRequest:
        """The request to a source for the tokens that follow those `generated`."""
        return TokenRequest(**self._token_fields(generated))

    def routing(
        self, generated: int, elapsed: float, abandoned: Mapping[Source, Veto]
    ) -> RoutingRequest:
        """The request to the policy for a source of the rest, `elapsed` seconds after the start.

        `abandoned` are the sources that the generation moved away from, and why.
        """
        return RoutingRequest(
            mode=self.mode,
            privacy=self.privacy,
            prompt_tokens=len(self.prompt_ids) + generated,
            max_tokens=self.max_tokens - generated,
            max_tokens_given=self.must_fit,
            first_token_budget=None if generated else _rest(self.first_token_budget, elapsed),
            latency_budget=_rest(self.latency_budget, elapsed),
            offline=self.offline,
            sliding_window=self.sliding_window,
            abandoned=abandoned,
        )

    def _token_fields(self, generated: Sequence[int]) -> dict[str, Any]:
        return {
            "token_ids": (*self.prompt_ids, *generated),
            "prompt_tokens": len(self.prompt_ids),
            "max_tokens": self.max_tokens - len(generated),
            "sampling": self.sampling,
            "end_ids": self.end_ids,
            "sliding_window": self.sliding_window,
            "logprobs": self.logprobs,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivateRequest(Request):
    """A request that never leaves the device: the cloud does not accept its TokenRequests."""

    privacy: ClassVar[Privacy] = Privacy.PRIVATE


@dataclass(frozen=True, slots=True, kw_only=True)
class AllowCloudRequest(Request):
    """A request that may leave the device."""

    privacy: ClassVar[Privacy] = Privacy.ALLOW_CLOUD

    def after(self, generated: Sequence[int]) -> CloudTokenRequest:
        """See Request."""
        return CloudTokenRequest(**self._token_fields(generated), max_tokens_given=self.must_fit)


AnyRequest = PrivateRequest | AllowCloudRequest


def _rest(budget: float | None, elapsed: float) -> float | None:
    return None if budget is None else budget - elapsed
