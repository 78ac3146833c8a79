"""An attempt's progress, as edgewise.generation.attempt keeps it, in virtual time."""

from dataclasses import dataclass

from edgewise import Measurement, PredictedTime
from edgewise.policy.types import Progress

_ENOUGH = 8  # tokens after which the measured gap replaces the predicted one


@dataclass(slots=True)
class Attempt:
    """Times in seconds."""

    position: int  # tokens there when it began
    max_tokens: int
    predicted: PredictedTime
    began: float
    alone: bool = True  # whether the device ran no other generation meanwhile
    first_token: float | None = None
    tokens: int = 0
    decode_time: float = 0.0  # from the first token to the last
    _last: float | None = None  # when the last token arrived

    def arrived(self, now: float) -> None:
        if self._last is None:
            self.first_token = now - self.began
        else:
            self.decode_time += now - self._last
        self._last = now
        self.tokens += 1

    def progress(self, now: float) -> Progress:
        """What the policy sees."""
        gap = self.decode_time / (self.tokens - 1) if self.tokens > _ENOUGH else self.predicted.gap
        expected = gap if self.tokens else self.predicted.first_token
        silent = now - (self.began if self._last is None else self._last)
        remaining = None
        if expected is not None and gap is not None:
            remaining = abs(expected - silent) + gap * (self.max_tokens - self.tokens - 1)
        return Progress(silent=silent, expected=expected, remaining=remaining)

    def measurement(self, queued: float, now: float) -> Measurement:
        """What can be learned from it, once a token has arrived."""
        return Measurement(
            position=self.position,
            uncached=self.position,
            first_token=self.first_token or 0.0,
            tokens=self.tokens,
            decode_time=self.decode_time,
            queued=queued,
            at=now,
        )
