"""What load to put on a service."""

import math
import re
from dataclasses import dataclass
from typing import Any

from edgewise_cloud.errors import LoadTestError

STREAMS_PER_CONNECTION = 16
MOST_TEMPERATURE = 100.0  # that the service takes
LONGEST = 30 * 24 * 3600.0  # seconds
_SECONDS = {"ms": 0.001, "": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True, slots=True)
class Span:
    """Whole numbers from `low` to `high`, both among them; each is as likely as the others."""

    low: int
    high: int

    def __str__(self) -> str:
        """As it is written on the command line."""
        return str(self.low) if self.low == self.high else f"{self.low}-{self.high}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadPlan:
    """Which requests to send, how many at once, for how long. Raises LoadTestError when senseless.

    Without `rate` the loop is closed: each stream sends a request when its last one has ended, so
    a slow service is asked less. With it the loop is open: requests are due at random times,
    `rate` a second on average, however slow the service is.
    """

    target: str  # HOST:PORT
    streams: int = 16  # closed loop: requests always running; open loop: running at most
    duration: float = 60.0  # seconds
    requests: int | None = None  # stop after so many, all answered, instead of after `duration`
    rate: float | None = None  # requests a second
    prompt_tokens: Span = Span(64, 64)
    max_tokens: Span = Span(128, 128)
    temperature: float = 0.0
    seed: int = 1  # the same seed sends the same requests
    shared_prefix: int = 0  # tokens that all prompts begin with
    deadline: float | None = None  # seconds a request may take
    cancel_rate: float = 0.0  # share of requests cancelled half way
    warm_up: int | None = None  # short requests sent before, not counted; None: one a stream
    connections: int | None = None  # None: one for every 16 streams
    wait: float = 30.0  # seconds to wait for a model that loads

    def __post_init__(self) -> None:
        """Check every option."""
        host, _, port = self.target.rpartition(":")
        _require(
            bool(host) and port.isdecimal() and 0 < int(port) < 65536,
            f"target must be HOST:PORT, like 127.0.0.1:50051, not '{self.target}'",
        )
        for name in ("streams", "requests", "connections"):
            _require(_unset_or_from(getattr(self, name), 1), f"{name} must be at least 1")
        for name in ("warm_up", "shared_prefix", "seed", "wait"):
            _require(_unset_or_from(getattr(self, name), 0), f"{name} must be at least 0")
        for name in ("duration", "rate", "deadline"):
            value = getattr(self, name)
            _require(
                value is None or 0 < value <= LONGEST,
                f"{name} must be above 0 and at most {LONGEST:.0f}",
            )
        for name in ("prompt_tokens", "max_tokens"):
            span = getattr(self, name)
            _require(
                1 <= span.low <= span.high,
                f"{name} must be a number from 1, or two like 16-256, not '{span}'",
            )
        _require(0 <= self.cancel_rate <= 1, "cancel_rate must be between 0 and 1")
        _require(
            0 <= self.temperature <= MOST_TEMPERATURE,
            f"temperature must be between 0 and {MOST_TEMPERATURE:g}",
        )
        _require(
            self.shared_prefix <= self.prompt_tokens.low,
            f"shared_prefix is {self.shared_prefix}, but the shortest prompt has "
            f"{self.prompt_tokens.low} tokens; make prompt_tokens longer",
        )

    @property
    def loop(self) -> str:
        """Either closed or open."""
        return "closed" if self.rate is None else "open"

    @property
    def channels(self) -> int:
        """Connections the streams are spread over."""
        return self.connections or math.ceil(self.streams / STREAMS_PER_CONNECTION)


def parse_duration(text: str) -> float:
    """Seconds in a text like `60s`, `2m`, `1.5h`, `500ms` or `90`. Raises LoadTestError."""
    parts = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)\s*(ms|s|m|h|)", text.strip(), re.ASCII)
    if not parts:
        raise LoadTestError(f"'{text}' is no duration; write it like 60s, 2m, 1.5h or 90 (seconds)")
    return float(parts[1]) * _SECONDS[parts[2]]


def parse_span(text: str) -> Span:
    """A number like `64`, or a span like `16-256`. Raises LoadTestError."""
    parts = re.fullmatch(r"(\d{1,9})(?:-(\d{1,9}))?", text.strip(), re.ASCII)
    if not parts:
        raise LoadTestError(f"'{text}' is no number of tokens; write it like 64, or 16-256")
    return Span(int(parts[1]), int(parts[2] or parts[1]))


def _unset_or_from(value: Any, least: int) -> bool:
    return value is None or value >= least


def _require(holds: bool, text: str) -> None:
    if not holds:
        raise LoadTestError(text)
