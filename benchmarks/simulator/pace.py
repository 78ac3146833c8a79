"""How one side's run at a text is doing, as edgewise.generation.attempt tells it, in virtual time."""

from dataclasses import dataclass

from edgewise.latency.measurement import Measurement
from edgewise.policy.types import PredictedTime, Progress

_ENOUGH = 8  # tokens by which a pace is known


@dataclass(slots=True)
class Pace:
    """Times in seconds."""

    position: int  # tokens there when it began
    max_tokens: int
    predicted: PredictedTime
    begun: float  # when it began to read
    alone: bool  # whether the phone wrote no other text meanwhile
    load: float = 0.0
    first_token: float | None = None
    tokens: int = 0
    decode_time: float = 0.0  # from the first token to the last
    _last: float | None = None  # when the last token came

    def loaded(self, seconds: float, now: float) -> None:
        """The model had to be loaded first."""
        self.load, self.begun = seconds, now

    def took(self, now: float) -> None:
        """A token has come."""
        if self._last is None:
            self.first_token = now - self.begun
        else:
            self.decode_time += now - self._last
        self._last = now
        self.tokens += 1

    def progress(self, now: float) -> Progress:
        """What the policy is told."""
        gap = self.decode_time / (self.tokens - 1) if self.tokens > _ENOUGH else self.predicted.gap
        expected = gap if self.tokens else self.predicted.first_token
        silent = now - (self.begun if self._last is None else self._last)
        remaining = None
        if expected is not None and gap is not None:
            remaining = abs(expected - silent) + gap * (self.max_tokens - self.tokens - 1)
        return Progress(silent=silent, expected=expected, remaining=remaining)

    def measurement(self, queued: float, now: float) -> Measurement:
        """What can be learned from it, once a token has come."""
        return Measurement(
            position=self.position,
            uncached=self.position,
            first_token=self.first_token or 0.0,
            tokens=self.tokens,
            decode_time=self.decode_time,
            queued=queued,
            at=now,
        )
