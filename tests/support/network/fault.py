"""Faults that a proxy can cause."""

import asyncio
from dataclasses import dataclass
from enum import StrEnum

THROTTLED_WRITES = 20  # a second


class Kind(StrEnum):
    """What a fault does."""

    DELAY = "delay"
    THROTTLE = "throttle"
    STALL = "stall"
    CUT = "cut"
    RESET = "reset"
    REFUSE = "refuse"
    HANG_UP = "hang_up"


ENDS_CONNECTIONS = {Kind.CUT, Kind.RESET}
REJECTS_CONNECTIONS = {Kind.CUT, Kind.RESET, Kind.HANG_UP}


@dataclass(eq=False)
class Fault:
    """Takes effect once this much more has been forwarded to the device, over all connections."""

    kind: Kind
    bytes_left: int
    tokens_left: int
    amount: float = 0.0  # DELAY: seconds; THROTTLE: bytes per second

    @property
    def active(self) -> bool:
        """Whether it is in effect."""
        return not self.bytes_left and not self.tokens_left

    def before(self, chunk: bytes, token_ends: list[int]) -> int:
        """How many bytes of `chunk` pass before it takes effect."""
        last = len(chunk)
        if self.tokens_left <= len(token_ends):
            last = token_ends[self.tokens_left - 1] if self.tokens_left else 0
        return max(last, min(self.bytes_left, len(chunk)))

    def count(self, octets: int, tokens: int) -> None:
        """Count what has been forwarded."""
        self.bytes_left = max(0, self.bytes_left - octets)
        self.tokens_left = max(0, self.tokens_left - tokens)

    async def wait(self, octets: int) -> int:
        """Hold `octets` bytes back; returns how many of them may pass afterwards."""
        if self.kind is Kind.STALL or self.kind in ENDS_CONNECTIONS:
            await asyncio.Event().wait()
        elif self.kind is Kind.DELAY:
            await asyncio.sleep(self.amount)
        elif self.kind is Kind.THROTTLE:
            octets = min(octets, max(1, int(self.amount / THROTTLED_WRITES)))
            await asyncio.sleep(octets / self.amount)
        return octets
