"""The options of a request, and checks that the options of routers share."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any, Literal, TypeAlias, TypedDict, TypeVar

from edgewise.errors import ConfigurationError, UnknownOptionError
from edgewise.policy.types import Availability, DeviceState, Mode, Privacy
from edgewise_edge.checks import Range, check_type, shown
from edgewise_edge.decoding.token_score import TOP

DEFAULT_MAX_TOKENS = 128

# Text, or the model's token ids. The text "" begins a new text (Tokenizer.encode_prompt).
Prompt: TypeAlias = str | Sequence[int]

ModeName: TypeAlias = Literal[
    "prefer_on_device", "only_on_device", "prefer_in_cloud", "only_in_cloud"
]
PrivacyName: TypeAlias = Literal["private", "allow_cloud"]


class RequestOptions(TypedDict, total=False):
    """Options of one request. Leave one out, or pass None, for its default.

    - `max_tokens` (1 or more; default 128, or what fits): new tokens at most. The answer also ends
      with the context window, unless it slides.
    - `temperature` (0 to 100; default: the model's): 0 always takes the most likely token.
    - `top_k` (0 or more; default: the model's): choose among this many tokens; 0: no limit.
    - `top_p` (above 0, at most 1; default: the model's): choose among the most likely tokens that
      together have this probability; 1: no limit.
    - `min_p` (0 to 1; default: the model's): choose among the tokens that have at least this share of
      the most likely one's probability; 0: no limit.
    - `repetition_penalty` (0.01 to 100; default: the model's): above 1 avoids tokens that were used
      before; 1: none.
    - `presence_penalty` (-2 to 2; default: the model's): as in OpenAI's API, is taken from the score of
      each token that the answer has already; 0: none.
    - `frequency_penalty` (-2 to 2; default: the model's): the same, once for each time that the answer
      has it; 0: none.
    - `logit_bias` (-100 to 100 by token id; default: none): is added to the score of each of these
      tokens, at most 1024: -100 rules a token out.
    - `seed` (0 to 2**63 - 1; default: random): the same seed gives the same text on one source,
      up to near-ties after another prompt that began alike.
    - `stop` (text, or several; default: none): the answer ends before the first of these texts.
    - `logprobs` (0 to 20; default: none): return the log-probability of each token, as the model
      gave it, and those of so many likeliest tokens in its place.
    - `mode` ("prefer_on_device", "only_on_device", "prefer_in_cloud" or "only_in_cloud"; default:
      the router's): which source to use or prefer.
    - `privacy` ("private" or "allow_cloud"; default: what `classify` says, or the router's): "private" keeps prompt and answer
      on the device.
    - `first_token_budget` (seconds above 0; default: none): the time to the first token, which
      decides the source, and hands off when it is missed.
    - `latency_budget` (seconds above 0; default: none): the same for the whole answer.
    - `hedge_after` (seconds above 0; default: never): start the other source too when there is no
      token for that long; the first to answer wins.
    - `sliding_window` (True or False; default: False): continue on the device past its context
      window, dropping the start of the text.
    - `device` (function; default: the router's): returns a DeviceState to use for this request
      alone, which is asked again while it runs: what if the battery were low?
    """

    max_tokens: int | None
    temperature: float | None
    top_k: int | None
    top_p: float | None
    min_p: float | None
    repetition_penalty: float | None
    presence_penalty: float | None
    frequency_penalty: float | None
    logit_bias: Mapping[int, float] | None
    seed: int | None
    stop: Sequence[str] | str | None
    logprobs: int | None
    mode: Mode | ModeName | None
    privacy: Privacy | PrivacyName | None
    first_token_budget: float | None
    latency_budget: float | None
    hedge_after: float | None
    sliding_window: bool | None
    device: Callable[[], DeviceState] | None


class ScoreOptions(TypedDict, total=False):
    """Options of a score. Leave one out, or pass None, for its default.

    - `top` (0 to 20; default: 0): also the log-probabilities of so many likeliest tokens at each place.
    - `mode` ("prefer_on_device", "only_on_device", "prefer_in_cloud" or "only_in_cloud"; default:
      the router's): which source to use or prefer.
    - `privacy` ("private" or "allow_cloud"; default: what `classify` says, or the router's):
      "private" keeps the prompt on the device.
    - `first_token_budget` (seconds above 0; default: none): the time for it, which decides the source.
      It is compared with the predicted time to a first token.
    - `device` (function; default: the router's): returns a DeviceState to use for this score alone.
    """

    top: int | None
    mode: Mode | ModeName | None
    privacy: Privacy | PrivacyName | None
    first_token_budget: float | None
    device: Callable[[], DeviceState] | None


# What clocks, threads and gRPC can wait for is the limit of seconds.
REQUEST_RANGES: Mapping[str, Range] = {
    "max_tokens": Range(1, 2**31 - 1, whole=True),
    "logprobs": TOP,
    "first_token_budget": Range(0, 10**6, above=True, unit="seconds"),
    "latency_budget": Range(0, 10**6, above=True, unit="seconds"),
    "hedge_after": Range(0, 10**6, above=True, unit="seconds"),
}

Choice = TypeVar("Choice", Mode, Privacy, Availability)
Type = TypeVar("Type", bound=type)
Function = TypeVar("Function", bound=Callable[..., Any])


def parse_choice(name: str, kind: type[Choice], value: str, error: type[Exception]) -> Choice:
    """The enum member with that value. Raises `error`, with the valid values."""
    try:
        return kind(value)
    except ValueError as invalid:
        raise error(f"{name} is {shown(value)}; it must be one of {', '.join(kind)}") from invalid


def require_type(name: str, value: object, kind: type, expected: str) -> None:
    """Raise ConfigurationError unless `value` is one of these."""
    check_type(name, value, kind, expected, ConfigurationError)


def require_function(
    name: str, value: object, expected: str, error: type[Exception] = ConfigurationError
) -> None:
    """Raise `error` unless `value` can be called, without `await`."""
    if not callable(value) or inspect.iscoroutinefunction(value):
        raise error(f"{name} is {shown(value)}; it must be {expected}")


def require_known(options: Mapping[str, object], valid: Sequence[str]) -> None:
    """Raise UnknownOptionError for the first name that is not `valid`."""
    for name in options:
        if name not in valid:
            raise UnknownOptionError(name, valid)


def known_options(kind: Type) -> Type:
    """Class decorator: a misspelt keyword of the constructor is an UnknownOptionError."""
    construct = kind.__init__  # type: ignore[misc]
    valid = [name for name in inspect.signature(construct).parameters if name != "self"]

    @wraps(construct)
    def init(self: object, *values: object, **options: object) -> None:
        require_known(options, valid)
        construct(self, *values, **options)

    kind.__init__ = init  # type: ignore[misc]
    return kind


def documents_options(options: type) -> Callable[[Function], Function]:
    """Decorator: add the list of `options`, such as RequestOptions, to the docstring."""

    def documented(function: Function) -> Function:
        function.__doc__ = f"{inspect.getdoc(function)}\n\n{inspect.getdoc(options)}"
        return function

    return documented
