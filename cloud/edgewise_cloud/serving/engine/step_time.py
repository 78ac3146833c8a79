"""How long steps take, and the waits that follow from it: plain arithmetic."""

import heapq
import statistics
from collections import deque
from dataclasses import dataclass, field

_WINDOW = 5.0  # seconds over which tokens per second are counted
_REMEMBERED = 9  # steps per batch size; one stall does not move their median


@dataclass(frozen=True, slots=True)
class WaitEstimate:
    """Seconds until any slot is free, and until one is free for a new request."""

    first_free: float
    new_request: float


@dataclass(slots=True)
class StepTimeEstimator:
    """Step times by batch size, and tokens per second."""

    _steps: dict[int, deque[float]] = field(default_factory=dict)
    _tokens: deque[tuple[float, int]] = field(default_factory=deque)

    def clear(self) -> None:
        """Forget all measurements."""
        self._steps.clear()
        self._tokens.clear()

    def clear_steps(self) -> None:
        """Forget how long steps took: they take another time from now on."""
        self._steps.clear()

    def record_step(self, sequences: int, seconds: float) -> None:
        """A step over this many sequences took `seconds`."""
        self._steps.setdefault(sequences, deque(maxlen=_REMEMBERED)).append(seconds)

    def record_tokens(self, now: float, tokens: int) -> None:
        """Count new tokens."""
        self._tokens.append((now, tokens))
        self._drop_old(now)

    def step_time(self, sequences: int) -> float:
        """Expected seconds of a step over this many sequences; 0 without measurements."""
        known = min(self._steps, key=lambda other: abs(other - sequences), default=None)
        return 0.0 if known is None else statistics.median(self._steps[known])

    def tokens_per_second(self, now: float) -> float:
        """Over the last five seconds."""
        self._drop_old(now)
        return sum(tokens for _, tokens in self._tokens) / _WINDOW

    def wait(self, slots: int, running: list[int], waiting: list[int]) -> WaitEstimate:
        """When slots become free, given the steps that running and waiting requests still need."""
        step = self.step_time(max(1, len(running)))
        free = [steps * step for steps in running] + [0.0] * (slots - len(running))
        heapq.heapify(free)
        first = free[0]
        for steps in waiting:
            heapq.heapreplace(free, free[0] + steps * step)
        return WaitEstimate(first_free=first, new_request=free[0])

    def _drop_old(self, now: float) -> None:
        while self._tokens and self._tokens[0][0] < now - _WINDOW:
            self._tokens.popleft()
