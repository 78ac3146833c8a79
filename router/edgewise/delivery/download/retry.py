"""When to try again, and when to give up: exponential backoff with full jitter."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from edgewise.delivery.settings import DownloadSettings
from edgewise.errors import DownloadFailedError
from edgewise_edge.installed.fetcher import FetchError, FetchFailure

_FIRST_DELAY = 1.0  # seconds, at most
_MAX_DELAY = 60.0  # seconds
_MAX_RETRY_AFTER = 300.0  # seconds: a server does not stop updates for a year


@dataclass(frozen=True, slots=True)
class Clock:
    """Time and chance, which tests replace. Seconds."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], object] = time.sleep
    jitter: Callable[[], float] = random.random  # 0 to 1


@dataclass(slots=True)
class Retry:
    """Counts the tries of one file that ended without progress."""

    what: str  # of the file, for messages
    settings: DownloadSettings
    clock: Clock = field(default_factory=Clock)
    failures: int = 0

    def progress(self) -> None:
        """Bytes came: start counting again."""
        self.failures = 0

    def failed(self, error: FetchError) -> None:
        """Wait before the next try. Raises DownloadFailedError if there is none."""
        self.failures += 1
        if error.kind is not FetchFailure.TEMPORARY:
            raise DownloadFailedError(f"{self.what} cannot be downloaded: {error}") from error
        if self.failures >= self.settings.tries:
            raise DownloadFailedError(
                f"{self.what} cannot be downloaded: {error} (tried {self.failures} times without "
                "progress); try again later, what is there is kept"
            ) from error
        self.clock.sleep(self._delay(error.retry_after))

    def _delay(self, retry_after: float) -> float:
        """Full jitter spreads devices that failed together; nobody comes before `retry_after`."""
        # The exponent is bounded: 2.0**1024 would overflow.
        backoff = min(_MAX_DELAY, _FIRST_DELAY * 2.0 ** min(self.failures - 1, 10))
        return min(retry_after, _MAX_RETRY_AFTER) + backoff * self.clock.jitter()
