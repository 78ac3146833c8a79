"""What is remembered about one attempt."""

from dataclasses import dataclass

_MAX_SECONDS = 1e6  # eleven days
_MAX_TOKENS = 2**31


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One attempt of one source. Times in seconds. Raises ValueError for impossible values.

    Without tokens, `first_token` is a lower bound: the wait for it was ended after that time.
    """

    position: int  # tokens before the attempt, prompt and answer
    uncached: int  # of those, how many had to be prefilled
    first_token: float  # until the first token, with queueing and without loading the model
    tokens: int  # generated
    decode_time: float = 0.0  # from the first token to the last
    queued: float = 0.0  # the part of `first_token` spent in the service's queue
    at: float = 0.0  # when it ended: time.time()

    def __post_init__(self) -> None:
        """Raise ValueError."""
        tokens = 1 if self.tokens == 0 else self.tokens
        counts = (self.position, self.uncached, tokens)
        times = (self.first_token, self.decode_time, self.queued)
        if not (
            all(isinstance(count, int) and 1 <= count < _MAX_TOKENS for count in counts)
            and self.uncached <= self.position
            and all(0 <= seconds < _MAX_SECONDS for seconds in times)
        ):
            raise ValueError(
                f"{self} is invalid: `position` and `uncached` are whole numbers from 1, `uncached` "
                "is at most `position`, `tokens` is a whole number from 0, and times are seconds from 0"
            )

    @property
    def complete(self) -> bool:
        """Whether there was a token, rather than only a lower bound of the time to it."""
        return self.tokens > 0

    @property
    def total(self) -> float:
        """Seconds until the last token."""
        return self.first_token + self.decode_time
