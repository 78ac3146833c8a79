"""The plan of a load test, and its options."""

import math
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise_cloud.errors import LoadTestError
from edgewise_cloud.loadtest.plan import LoadPlan, TokenRange, parse_duration, parse_token_range
from edgewise_cloud.loadtest.security import ClientSecurity


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("60s", 60), ("2m", 120), ("90", 90), ("1.5h", 5400), ("500ms", 0.5), (" 7 s ", 7)],
)
def test_durations_are_parsed(text: str, seconds: float) -> None:
    """A plain number is in seconds."""
    assert parse_duration(text) == seconds


@given(st.integers(1, 10**6), st.integers(0, 10**6))
def test_token_ranges_are_parsed_as_they_are_printed(low: int, more: int) -> None:
    """A single number if both ends are equal."""
    tokens = TokenRange(low, low + more)
    assert parse_token_range(str(tokens)) == tokens


@given(st.text() | st.text("0123456789.-smh ", max_size=8))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    """With a LoadTestError, and no other exception."""
    with suppress(LoadTestError):
        assert 0 <= parse_duration(text) < math.inf
    with suppress(LoadTestError):
        assert parse_token_range(text).low >= 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "localhost"}, "HOST:PORT: write 'localhost:50051'"),
        ({"target": ":50051"}, "HOST:PORT: write 'localhost:50051'"),
        ({"target": "host:99999"}, "HOST:PORT: write 'host:50051'"),
        ({"target": "::1:8443"}, r"HOST:PORT: write '\[::1\]:8443'"),
        ({"target": "fd00::5:8443"}, r"HOST:PORT: write '\[fd00::5\]:8443'"),
        ({"target": "http://host:1"}, "--target is 'http://host:1'; it has a scheme"),
        ({"target": "host:1,other:2"}, "it is a list"),
        ({"streams": 0}, "streams"),
        ({"requests": 0}, "requests"),
        ({"connections": -1}, "connections"),
        ({"duration": 0.0}, "duration"),
        ({"duration": float("nan")}, "duration"),
        ({"rate": float("inf")}, "rate"),
        ({"rate": -1.0}, "rate"),
        ({"deadline": 0.0}, "deadline"),
        ({"deadline": 1e300}, "deadline"),
        ({"prompt_tokens": TokenRange(0, 5)}, "prompt_tokens"),
        ({"max_tokens": TokenRange(9, 5)}, "max_tokens"),
        ({"cancel_rate": 1.5}, "cancel_rate"),
        ({"temperature": -1.0}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"shared_prefix": 65}, "shared_prefix"),
        ({"seed": -1}, "seed"),
        ({"warm_up": -1}, "warm_up"),
        ({"wait": float("nan")}, "wait"),
    ],
)
def test_invalid_plans_are_refused(options: dict[str, object], message: str) -> None:
    """The message names the option."""
    with pytest.raises(LoadTestError, match=message):
        LoadPlan(**{"target": "127.0.0.1:50051", **options})


@pytest.mark.parametrize(
    "target",
    ["::1:8443", "fd00::5:8443", "http://h:1", "u@h:1", "a:1,b:2", " h:1", "h:0", "h:٣", "[h]x:1"],
)
def test_a_target_that_grpc_reads_in_another_way_is_refused(target: str) -> None:
    """It takes the first for another machine, at port 443, which would be sent the token."""
    with pytest.raises(LoadTestError, match="HOST:PORT"):
        LoadPlan(target=target, security=ClientSecurity(token="t"))


@pytest.mark.parametrize("target", ["127.0.0.1:1", "[::1]:8443", "localhost:50051"])
def test_a_target_on_loopback_needs_no_encryption_for_a_token(target: str) -> None:
    """Nobody else can read it."""
    assert LoadPlan(target=target, security=ClientSecurity(token="t")).target == target
