"""What came of a request."""

from collections import Counter
from dataclasses import dataclass, field

from edgewise.policy.types import Source

from .world import Asked


@dataclass(slots=True)
class Outcome:
    """A request and what has come of it so far. Times in seconds since it was made."""

    asked: Asked
    written: int = 0  # tokens that the reader has
    first_token: float | None = None
    total: float | None = None  # None: the answer was lost
    computed: Counter[Source] = field(default_factory=Counter)  # tokens, lost ones included
    unspared: int = 0  # tokens computed on a phone that was to be spared
    fallbacks: int = 0  # another side went on before the first token
    handoffs: int = 0  # another side went on after it
    leaked: bool = False  # it was private, and went to the cloud

    @property
    def position(self) -> int:
        """Tokens there, prompt and answer."""
        return self.asked.prompt_tokens + self.written

    @property
    def complete(self) -> bool:
        """Whether all of the answer is there."""
        return self.written >= self.asked.answer_tokens

    @property
    def kept(self) -> bool:
        """Whether it kept its budgets; without an answer, no budget is kept."""
        if self.total is None or self.first_token is None:
            return False
        pairs = (
            (self.first_token, self.asked.first_token_budget),
            (self.total, self.asked.latency_budget),
        )
        return all(budget is None or time <= budget for time, budget in pairs)

    def sent_to(self, source: Source) -> None:
        """A side is asked."""
        self.leaked |= self.asked.private and source is Source.IN_CLOUD

    def took(self, source: Source, now: float) -> None:
        """A token has come."""
        self.written += 1
        self.computed[source] += 1
        if self.first_token is None:
            self.first_token = now - self.asked.at
        if self.complete:
            self.total = now - self.asked.at

    def moved(self) -> None:
        """Another side goes on with what is there."""
        if self.written:
            self.handoffs += 1
        else:
            self.fallbacks += 1
