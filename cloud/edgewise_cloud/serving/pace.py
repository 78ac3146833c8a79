"""How fast work goes, and what that means for what is asked: plain arithmetic."""

import heapq
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

_WINDOW = 5.0  # seconds that tokens per second are counted over
_SMOOTHING = 0.1  # weight of the newest step


@dataclass(frozen=True, slots=True)
class Work:
    """What a request still needs: steps that read a chunk of its prompt, and tokens to write."""

    chunks: int
    tokens: int

    @property
    def steps(self) -> int:
        """A step does one of either for a text."""
        return self.chunks + self.tokens


@dataclass(frozen=True, slots=True)
class Waits:
    """Seconds until a slot comes free at all, and until one does for a new request."""

    first_free: float
    new: float


@dataclass(slots=True)
class Pace:
    """How long steps take, by how many texts they write, and how many tokens were made lately."""

    _steps: dict[int, float] = field(default_factory=dict)
    _made: deque[tuple[float, int]] = field(default_factory=deque)

    def stepped(self, texts: int, seconds: float) -> None:
        """A step took `seconds` for so many texts."""
        before = self._steps.get(texts, seconds)
        self._steps[texts] = before + (seconds - before) * _SMOOTHING

    def made(self, now: float, tokens: int) -> None:
        """So many tokens were made."""
        self._made.append((now, tokens))
        self._forget(now)

    def step(self, texts: int) -> float:
        """Seconds a step takes for so many texts; 0 where nothing is known."""
        known = min(self._steps, key=lambda other: abs(other - texts), default=None)
        return 0.0 if known is None else self._steps[known]

    def tokens_per_second(self, now: float) -> float:
        """Over the last seconds."""
        self._forget(now)
        return sum(tokens for _, tokens in self._made) / _WINDOW

    def waits(self, slots: int, running: list[Work], waiting: Iterable[Work]) -> Waits:
        """When slots come free, if every text is written to its last token."""
        step = self.step(max(1, len(running)))
        free = [work.steps * step for work in running] + [0.0] * (slots - len(running))
        heapq.heapify(free)
        first = free[0]
        for work in waiting:
            heapq.heapreplace(free, free[0] + work.steps * step)
        return Waits(first_free=first, new=free[0])

    def _forget(self, now: float) -> None:
        while self._made and self._made[0][0] < now - _WINDOW:
            self._made.popleft()
