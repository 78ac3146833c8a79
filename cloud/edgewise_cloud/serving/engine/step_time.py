"""How fast work goes, and what that means for what is asked: plain arithmetic."""

import heapq
import statistics
from collections import deque
from dataclasses import dataclass, field

_WINDOW = 5.0  # seconds that tokens per second are counted over
_REMEMBERED = 9  # steps; their median is not moved by a machine that stood still once


@dataclass(frozen=True, slots=True)
class Waits:
    """Seconds until a slot comes free at all, and until one does for a new request."""

    first_free: float
    new: float


@dataclass(slots=True)
class Pace:
    """How long steps take, by how many texts they write, and how many tokens were made lately."""

    _steps: dict[int, deque[float]] = field(default_factory=dict)
    _made: deque[tuple[float, int]] = field(default_factory=deque)

    def stepped(self, texts: int, seconds: float) -> None:
        """A step took `seconds` for so many texts."""
        self._steps.setdefault(texts, deque(maxlen=_REMEMBERED)).append(seconds)

    def made(self, now: float, tokens: int) -> None:
        """So many tokens were made."""
        self._made.append((now, tokens))
        self._forget(now)

    def step(self, texts: int) -> float:
        """Seconds a step takes for so many texts; 0 where nothing is known."""
        known = min(self._steps, key=lambda other: abs(other - texts), default=None)
        return 0.0 if known is None else statistics.median(self._steps[known])

    def tokens_per_second(self, now: float) -> float:
        """Over the last seconds."""
        self._forget(now)
        return sum(tokens for _, tokens in self._made) / _WINDOW

    def waits(self, slots: int, running: list[int], waiting: list[int]) -> Waits:
        """When slots come free, for texts that still need so many steps each."""
        step = self.step(max(1, len(running)))
        free = [steps * step for steps in running] + [0.0] * (slots - len(running))
        heapq.heapify(free)
        first = free[0]
        for steps in waiting:
            heapq.heapreplace(free, free[0] + steps * step)
        return Waits(first_free=first, new=free[0])

    def _forget(self, now: float) -> None:
        while self._made and self._made[0][0] < now - _WINDOW:
            self._made.popleft()
