"""What is remembered of one attempt at a text."""

from dataclasses import dataclass

_LONGEST = 1e6  # seconds, eleven days: no time that was measured
_MOST = 2**31  # tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One attempt of one side. Times in seconds. Raises ValueError for what cannot have been."""

    position: int  # tokens there when it began, prompt and answer
    uncached: int  # of those, how many it had to read anew
    first_token: float  # until the first token, with the queue and without loading
    tokens: int  # that it wrote
    decode_time: float = 0.0  # from the first token to the last
    queued: float = 0.0  # spent in the service's queue, of `first_token`
    at: float = 0.0  # when it ended: time.time()

    def __post_init__(self) -> None:
        """Raise ValueError."""
        counts = (self.position, self.uncached, self.tokens)
        times = (self.first_token, self.decode_time, self.queued)
        if not (
            all(isinstance(count, int) and 1 <= count < _MOST for count in counts)
            and self.uncached <= self.position
            and all(0 <= seconds < _LONGEST for seconds in times)
        ):
            raise ValueError(
                f"{self} cannot be: counts are whole numbers from 1, `uncached` is at most "
                "`position`, and times are seconds from 0"
            )

    @property
    def total(self) -> float:
        """Seconds until the last token."""
        return self.first_token + self.decode_time
