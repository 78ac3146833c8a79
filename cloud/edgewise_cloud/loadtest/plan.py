"""The plan of a load test, and parsing its options."""

import math
import re
from dataclasses import dataclass, field
from typing import Any

from edgewise_cloud.errors import LoadTestError
from edgewise_cloud.loadtest.security import ClientSecurity

STREAMS_PER_CONNECTION = 16
MAX_TEMPERATURE = 100.0  # that the service accepts
MAX_SECONDS = 30 * 24 * 3600.0
# Strict, since gRPC takes ::1:8443 for the address of another machine.
_TARGET = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+):(?P<port>[0-9]{1,5})", re.ASCII)
_SECONDS = {"ms": 0.001, "": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True, slots=True)
class TokenRange:
    """A uniform distribution over the whole numbers from `low` to `high`, both included."""

    low: int
    high: int

    def __str__(self) -> str:
        """As written on the command line."""
        return str(self.low) if self.low == self.high else f"{self.low}-{self.high}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadPlan:
    """Which requests to send, how many at once, for how long. Raises LoadTestError if invalid.

    Without `rate` the loop is closed: each stream sends a request when its last one has ended, so
    a slow service gets fewer. With `rate` the loop is open: requests are due at random times,
    `rate` per second on average, however slow the service is.
    """

    target: str  # HOST:PORT
    streams: int = 16  # requests running at once; in an open loop, at most
    duration: float = 60.0  # seconds
    requests: int | None = None  # stop after this many have ended, instead of after `duration`
    rate: float | None = None  # requests per second
    prompt_tokens: TokenRange = TokenRange(64, 64)
    max_tokens: TokenRange = TokenRange(128, 128)
    temperature: float = 0.0
    seed: int = 1  # the same seed sends the same requests
    shared_prefix: int = 0  # tokens that all prompts begin with
    deadline: float | None = None  # seconds a request may take
    cancel_rate: float = 0.0  # share of requests cancelled halfway
    warm_up: int | None = None  # short requests sent first, not counted; None: one per stream
    connections: int | None = None  # None: one per 16 streams
    wait: float = 30.0  # seconds to wait for the service (at most 5) and its model
    security: ClientSecurity = field(default_factory=ClientSecurity)

    def __post_init__(self) -> None:
        """Check every option."""
        found = _TARGET.fullmatch(self.target)
        _require(
            found is not None and 0 < int(found["port"]) < 65536,
            "target must be HOST:PORT, like 127.0.0.1:50051, an IPv6 address in brackets, not "
            f"'{self.target}'",
        )
        for name in ("streams", "requests", "connections"):
            _require(_unset_or_at_least(getattr(self, name), 1), f"{name} must be at least 1")
        for name in ("warm_up", "shared_prefix", "seed", "wait"):
            _require(_unset_or_at_least(getattr(self, name), 0), f"{name} must be at least 0")
        for name in ("duration", "rate", "deadline"):
            value = getattr(self, name)
            _require(
                value is None or 0 < value <= MAX_SECONDS,
                f"{name} must be above 0 and at most {MAX_SECONDS:.0f}",
            )
        for name in ("prompt_tokens", "max_tokens"):
            tokens = getattr(self, name)
            _require(
                1 <= tokens.low <= tokens.high,
                f"{name} must be a number from 1, or a range like 16-256, not '{tokens}'",
            )
        _require(0 <= self.cancel_rate <= 1, "cancel_rate must be between 0 and 1")
        _require(
            0 <= self.temperature <= MAX_TEMPERATURE,
            f"temperature must be between 0 and {MAX_TEMPERATURE:g}",
        )
        _require(
            self.shared_prefix <= self.prompt_tokens.low,
            f"shared_prefix is {self.shared_prefix}, but the shortest prompt has "
            f"{self.prompt_tokens.low} tokens; make prompt_tokens longer",
        )
        self.security.check(self.target)

    @property
    def loop(self) -> str:
        """Either `closed` or `open`."""
        return "closed" if self.rate is None else "open"

    @property
    def channels(self) -> int:
        """How many connections the streams share."""
        return self.connections or math.ceil(self.streams / STREAMS_PER_CONNECTION)


def parse_duration(text: str) -> float:
    """Parse a duration like `60s`, `2m`, `1.5h`, `500ms` or `90` to seconds. Raises LoadTestError."""
    parts = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)\s*(ms|s|m|h|)", text.strip(), re.ASCII)
    if not parts:
        raise LoadTestError(f"'{text}' is no duration; write it like 60s, 2m, 1.5h or 90 (seconds)")
    return float(parts[1]) * _SECONDS[parts[2]]


def parse_token_range(text: str) -> TokenRange:
    """Parse a number like `64`, or a range like `16-256`. Raises LoadTestError."""
    parts = re.fullmatch(r"(\d{1,9})(?:-(\d{1,9}))?", text.strip(), re.ASCII)
    if not parts:
        raise LoadTestError(f"'{text}' is no number of tokens; write it like 64 or 16-256")
    return TokenRange(int(parts[1]), int(parts[2] or parts[1]))


def _unset_or_at_least(value: Any, minimum: int) -> bool:
    return value is None or value >= minimum


def _require(valid: bool, message: str) -> None:
    if not valid:
        raise LoadTestError(message)
