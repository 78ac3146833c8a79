"""What was measured on each side, kept across runs, and the times predicted from it."""

import math
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import platformdirs

from edgewise.latency.history import History
from edgewise.latency.machine import machine
from edgewise.latency.measurement import Measurement
from edgewise.latency.predict import HOUR
from edgewise.latency.store import read, text, write
from edgewise.policy.types import UNKNOWN, PredictedTime

__all__ = ["LatencyLog", "Measurement", "default_path", "machine"]

_SAVE_EVERY = 5.0  # seconds


def default_path() -> Path:
    """Where measurements are kept: the user's cache folder."""
    return platformdirs.user_cache_path("edgewise") / "latency.json"


class LatencyLog:
    """Measurements by side (any key), in memory and in a JSON file; from any thread.

    The file is read once, and written every few seconds at most and by `save`. Where two processes
    keep one file, the one that writes last wins, and what the other measured meanwhile is lost. A
    file that cannot be read or written is done without: predictions are a convenience.
    """

    def __init__(self, path: Path | None = None, clock: Callable[[], float] = time.time) -> None:
        self._path, self._clock = path, clock
        # Re-entrant, since a stream may be collected, and end, in the middle of anything.
        self._lock, self._saving = threading.RLock(), threading.RLock()
        self._sides = read(path, clock()) if path else {}
        self._changed = False
        self._saved_at = -math.inf

    def measured(self, key: str) -> list[Measurement]:
        """What is known of a side, oldest first."""
        with self._lock:
            return list(self._side(key).measured)

    def load_times(self, key: str) -> list[float]:
        """How many seconds the side's model took to load, oldest first."""
        with self._lock:
            return list(self._side(key).load_times)

    def add(self, key: str, measurement: Measurement) -> None:
        """Remember one more, and forget the oldest beyond 64. One that says no time ended now."""
        measurement = measurement if measurement.at else replace(measurement, at=self._clock())
        with self._lock:
            self._side(key).add(measurement)
            self._changed = True
        self._save_sometimes()

    def add_load_time(self, key: str, seconds: float) -> None:
        """Remember how long the side's model took to load; the last eight times are."""
        with self._lock:
            self._side(key).load_times.append(seconds)
            self._changed = True
        self._save_sometimes()

    def predict_on_device(
        self,
        key: str,
        *,
        position: int,
        uncached: int,
        max_tokens: int,
        loaded: bool = True,
        queue_length: int = 0,
    ) -> PredictedTime:
        """See DeviceTimes.predict. What is not `loaded` will have to be."""
        with self._lock:
            side = self._side(key)
            times, load = side.on_device, 0.0 if loaded else side.load_time
        return times.predict(
            position=position,
            uncached=uncached,
            max_tokens=max_tokens,
            load=load,
            queue_length=queue_length,
        )

    def predict_in_cloud(
        self, key: str, *, position: int, max_tokens: int, expected_wait: float | None = None
    ) -> PredictedTime:
        """See CloudTimes.predict.

        What was last asked more than an hour ago is unknown again: a cloud that was slow once would
        never be asked otherwise.
        """
        with self._lock:
            side = self._side(key)
            if not side.measured or self._clock() - side.measured[-1].at > HOUR:
                return UNKNOWN
            times = side.in_cloud
        return times.predict(position=position, max_tokens=max_tokens, expected_wait=expected_wait)

    def save(self) -> None:
        """Write what the file does not hold yet."""
        if not self._path:
            return
        with self._saving:
            with self._lock:
                changed, self._changed = self._changed, False
                content = text(self._sides) if changed else ""
            if changed:
                write(self._path, content)
                self._saved_at = self._clock()

    def _save_sometimes(self) -> None:
        if abs(self._clock() - self._saved_at) >= _SAVE_EVERY:  # clocks are put back, too
            self.save()

    def _side(self, key: str) -> History:
        return self._sides.setdefault(key, History())
