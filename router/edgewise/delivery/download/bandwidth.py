"""A limit of bytes per second: a token bucket of one second."""

from edgewise.delivery.download.retry import Clock


class Bandwidth:
    """Lets `rate` bytes per second pass; None is no limit."""

    def __init__(self, rate: float | None, clock: Clock) -> None:
        self._rate = rate
        self._clock = clock
        self._tokens = rate or 0.0
        self._filled = clock.now()

    def take(self, count: int) -> None:
        """Wait until `count` bytes may pass. More than a second's bytes leave a debt."""
        if self._rate is None:
            return
        now = self._clock.now()
        self._tokens = min(self._rate, self._tokens + (now - self._filled) * self._rate) - count
        self._filled = now
        if self._tokens < 0:
            self._clock.sleep(-self._tokens / self._rate)
