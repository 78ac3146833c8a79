"""What a day came to, by strategy."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Self

from edgewise.policy.types import Source

from .day import Day
from .outcome import Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Counts over a day, or over several."""

    requests: int = 0
    budgeted: int = 0
    kept: int = 0  # budgets, also those of private requests that leaked
    public: int = 0  # budgeted requests that may go to the cloud
    public_kept: int = 0
    lost: int = 0  # requests without an answer, or without the end of one
    cloud_tokens: int = 0  # written there, for the reader or for nobody
    unspared: int = 0  # public tokens written by a phone below its floor of charge
    joules: float = 0.0  # of the phone's: computing and radio
    fallbacks: int = 0
    handoffs: int = 0
    leaks: int = 0  # private requests that went to the cloud

    @classmethod
    def of(cls, day: Day, outcomes: Sequence[Outcome]) -> Self:
        """Of one day."""
        budgeted = [outcome for outcome in outcomes if outcome.asked.budgeted]
        public = [outcome for outcome in budgeted if not outcome.asked.private]
        return cls(
            requests=len(outcomes),
            budgeted=len(budgeted),
            kept=sum(outcome.kept for outcome in budgeted),
            public=len(public),
            public_kept=sum(outcome.kept for outcome in public),
            lost=sum(outcome.total is None for outcome in outcomes),
            cloud_tokens=sum(outcome.computed[Source.IN_CLOUD] for outcome in outcomes),
            unspared=sum(outcome.unspared for outcome in outcomes),
            joules=day.phone.computed + day.phone.radio.joules,
            fallbacks=sum(outcome.fallbacks for outcome in outcomes),
            handoffs=sum(outcome.handoffs for outcome in outcomes),
            leaks=sum(outcome.leaked for outcome in outcomes),
        )

    def __add__(self, other: Self) -> Self:
        """Of both."""
        names = [part.name for part in fields(self)]
        return type(self)(**{name: getattr(self, name) + getattr(other, name) for name in names})

    @property
    def attained(self) -> float:
        """The share of budgets kept."""
        return self.kept / self.budgeted

    @property
    def public_attained(self) -> float:
        """Likewise, of requests that may go to the cloud: where the strategies may compete."""
        return self.public_kept / self.public
