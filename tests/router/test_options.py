"""Options: their documentation, their ranges, and what is said about a mistake."""

import inspect
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgewise import (
    CloudSecurity,
    CloudTimeouts,
    ConfigurationError,
    DeviceState,
    Limits,
    RequestError,
    RequestOptions,
    Router,
    ScoreOptions,
    UnknownOptionError,
)
from edgewise.testing import ScriptedCloud
from tests.router.routers import new_router

REQUEST_OPTIONS = list(RequestOptions.__annotations__)


def options_of(kind: type) -> list[str]:
    """The keyword options of its constructor."""
    parameters = inspect.signature(kind).parameters.values()
    return [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]


def documented(docstring: str) -> list[str]:
    """The options in its list: those before the bracket that holds range and default."""
    lines = re.findall(r"^- (`.*?) \(", docstring, re.MULTILINE)
    return [name for line in lines for name in re.findall(r"`(\w+)`", line)]


@pytest.mark.parametrize("kind", [Router, Limits, CloudTimeouts, CloudSecurity])
def test_every_option_of_a_constructor_is_documented(kind: type) -> None:
    """In the order of the signature, with its default."""
    docstring = inspect.getdoc(kind)
    assert [name for name in documented(docstring) if name != "model"] == options_of(kind)
    assert docstring.count("default") >= len(options_of(kind)) - 1  # two may share a line


def test_help_of_the_router_lists_every_option_of_a_score() -> None:
    """Of both calls."""
    for method in (Router.score, Router.ascore):
        assert documented(inspect.getdoc(method)) == list(ScoreOptions.__annotations__)


@pytest.mark.parametrize("method", [Router.stream])
def test_help_of_the_router_lists_every_option_of_a_request(method: Callable[..., object]) -> None:
    """`help(Router.stream)` is where an app's developer looks."""
    assert documented(inspect.getdoc(method)) == REQUEST_OPTIONS
    assert documented(inspect.getdoc(RequestOptions)) == REQUEST_OPTIONS


async def asynchronous(_prompt: str) -> str:
    """A hook that would have to be awaited."""
    return "private"


INVALID_SETTINGS = [
    (Limits, {"min_battery": 30}, "min_battery is 30; .* from 0 to 1. For 30 % write 0.3"),
    (Limits, {"max_memory_pressure": 40.0}, "For 40 % write 0.4"),
    (Limits, {"min_battery": -0.1}, "from 0 to 1$"),
    (Limits, {"min_battery": float("nan")}, "min_battery is nan"),
    (Limits, {"min_battery": True}, "min_battery is True; it must be a number"),
    (Limits, {"min_battery": "20%"}, "min_battery is '20%'"),
    (Limits, {"max_queue": 0}, "max_queue is 0; it must be a whole number .* from 1"),
    (Limits, {"max_queue": 1.5}, "whole number"),
    (Limits, {"memory_reserve": -1}, "number of bytes, from 0"),
    (Limits, {"queue_timeout": -1}, "number of seconds, from 0"),
    (CloudTimeouts, {"connect": 0}, "connect is 0; .* seconds, above 0 and at most 3600"),
    (CloudTimeouts, {"first_token": "10"}, "first_token is '10'"),
    (Router, {"threads": 0}, "threads is 0"),
    (Router, {"keep_alive": -1.0}, "keep_alive is -1.0"),
    (Router, {"limits": {"min_battery": 0.3}}, "limits is .*; it must be a Limits"),
    (Router, {"limits": False}, "limits is False"),
    (Router, {"latency": 5}, "it must be a LatencyLog"),
    (Router, {"cloud_security": {"tls": True}}, "it must be a CloudSecurity"),
    (Router, {"cloud_timeouts": 5}, "it must be a CloudTimeouts"),
    (Router, {"device": DeviceState()}, "it must be a function that returns a DeviceState"),
    (Router, {"classify": "private"}, "classify is 'private'; it must be a function"),
    (Router, {"classify": asynchronous}, "not async"),
    (Router, {"observers": print}, "observers is .*; it must be a list of functions"),
    (Router, {"observers": "abc"}, "an observer is 'a'"),
    (Router, {"offline": "no"}, "offline is 'no'; it must be True or False"),
    (Router, {"offline": None}, "offline is None"),
    (Router, {"cloud": ScriptedCloud}, "cloud is <class"),
    (CloudSecurity, {"tls": "false"}, "tls is 'false'; it must be True or False"),
    (CloudSecurity, {"token": 5}, "not text"),
    (CloudSecurity, {"token": b"abc"}, "not text"),
    (CloudSecurity, {"root_certificates": ""}, "root_certificates is ''; it must be the path"),
    (CloudSecurity, {"root_certificates": b"ca.pem"}, "it must be the path of a file"),
    (CloudSecurity, {"client_certificate": "a\0b", "client_key": "k"}, "the path of a file"),
    (Limits, {"max_queue": 10**5000}, "max_queue is of type int; it must be"),
    (Router, {"mode": "on_device"}, "mode is 'on_device'; it must be one of prefer_on_device"),
    (Router, {"default_privacy": "secret"}, "default_privacy is 'secret'"),
]


@pytest.mark.parametrize(("kind", "options", "message"), INVALID_SETTINGS)
def test_setting_out_of_range_is_refused(
    kind: type, options: Mapping[str, Any], message: str
) -> None:
    """At construction, with what it may be; a percentage for a fraction with a hint."""
    with pytest.raises(ConfigurationError, match=message):
        kind(**options)


INVALID_REQUESTS = [
    ({"max_tokens": 0}, "max_tokens is 0; it must be a whole number, from 1"),
    ({"max_tokens": True}, "max_tokens is True"),
    ({"max_tokens": "9"}, "max_tokens is '9'"),
    ({"temperature": "hot"}, "temperature is 'hot'; it must be a number, from 0 to 100"),
    ({"top_p": 95}, "For 95 % write 0.95"),
    ({"top_p": 0}, "above 0 and at most 1"),
    ({"top_k": 1.5}, "top_k is 1.5"),
    ({"presence_penalty": 3}, "presence_penalty is 3; it must be a number, from -2 to 2"),
    ({"frequency_penalty": "1"}, "frequency_penalty is '1'"),
    ({"logit_bias": {10**6: 1}}, "logit_bias names token 1000000; ids are below"),
    ({"logprobs": 21}, "logprobs is 21; it must be a whole number, from 0 to 20"),
    ({"logprobs": True}, "logprobs is True"),
    ({"seed": -1}, "seed is -1"),
    ({"stop": 5}, "stop is of type int; it must be text"),
    ({"stop": np.array(0.5)}, "stop is of type ndarray"),
    ({"seed": 10**5000}, "seed is of type int"),
    ({"stop": b"x"}, "stop is of type bytes"),
    ({"stop": ["a", 5]}, "a stop string"),
    ({"mode": "cloud"}, "mode is 'cloud'; it must be one of"),
    ({"privacy": "public"}, "privacy is 'public'; it must be one of"),
    ({"latency_budget": 0}, "latency_budget is 0"),
    ({"hedge_after": "soon"}, "hedge_after is 'soon'"),
    ({"sliding_window": 1}, "sliding_window is 1; it must be True or False"),
]


@pytest.mark.parametrize(("options", "message"), INVALID_REQUESTS)
def test_request_option_out_of_range_is_refused(
    exact_folder: Path, options: Mapping[str, Any], message: str
) -> None:
    """By the call, before anything runs."""
    with new_router(exact_folder) as router, pytest.raises(RequestError, match=message):
        router.stream("the", **options)


def test_prompt_that_is_not_text_is_refused(exact_folder: Path) -> None:
    """The message names the type and no content."""
    with new_router(exact_folder) as router, pytest.raises(RequestError, match="of type bytes"):
        router.stream(b"the")


@pytest.mark.parametrize(
    ("make", "wrong", "closest"),
    [
        (lambda option: Router(**option), "mdoe", "mode"),
        (lambda option: Limits(**option), "min_batery", "min_battery"),
        (lambda option: CloudTimeouts(**option), "conect", "connect"),
        (lambda option: CloudSecurity(**option), "tokn", "token"),
        (lambda option: Router().stream("the", **option), "temprature", "temperature"),
        (lambda option: Router().route("the", **option), "zzz", None),
    ],
)
def test_misspelt_option_is_named_with_the_closest_valid_one(
    make: Callable[[dict[str, int]], object], wrong: str, closest: str | None
) -> None:
    """As a TypeError, which Python raises for one, and as our own."""
    with pytest.raises(UnknownOptionError, match=f"no option '{wrong}'") as raised:
        make({wrong: 1})
    assert (raised.value.option, raised.value.closest) == (wrong, closest)
    assert isinstance(raised.value, TypeError)
    assert f"did you mean '{closest}'" in str(raised.value) or closest is None


def test_numbers_of_other_types_are_numbers(exact_folder: Path) -> None:
    """And become Python's, so that a Generation can be written as JSON."""
    limits = Limits(
        max_queue=np.int64(3), min_battery=Decimal("0.25"), max_temperature=np.float32(80)
    )
    assert (limits.max_queue, limits.min_battery, limits.max_temperature) == (3, 0.25, 80.0)
    assert {type(limits.max_queue), type(limits.min_battery)} == {int, float}
    with new_router(exact_folder) as router:
        generation = router.generate(
            "the", max_tokens=np.int64(2), seed=np.int32(7), top_p=np.float32(1)
        )
    assert generation.usage.completion_tokens <= 2
    assert type(generation.seed) is int
