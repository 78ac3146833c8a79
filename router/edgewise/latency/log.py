"""Measurements of each source, kept across runs, and the times predicted from them."""

import math
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from edgewise.errors import ConfigurationError
from edgewise.latency.history import History
from edgewise.latency.measurement import Measurement
from edgewise.latency.predict import HOUR
from edgewise.latency.store import merge, read
from edgewise.policy.types import UNKNOWN, PredictedTime
from edgewise_edge.checks import check_type
from edgewise_edge.store.cache_folder import cache_folder

_SAVE_EVERY = 5.0  # seconds


def default_path() -> Path:
    """The file in the user's cache folder that keeps measurements."""
    return cache_folder() / "latency.json"


class LatencyLog:
    """Measurements by source key, in memory and in a JSON file. Thread-safe.

    The file is read once, and at most every few seconds and by `save`, what is new is added to it:
    several routers and processes may use one file. A file that cannot be read is ignored, and one
    that cannot be written is logged once: predictions are optional.
    """

    def __init__(self, path: Path | None = None, clock: Callable[[], float] = time.time) -> None:
        if path is not None:
            check_type("path", path, str | Path, "the path of a file", ConfigurationError)
            path = Path(path).absolute()  # a change of the working directory changes nothing
        self._path, self._clock = path, clock
        # Re-entrant: the garbage collector may end a stream, which adds to the log, at any point.
        self.lock, self.save_lock = threading.RLock(), threading.RLock()
        self._histories = read(self._path, clock()) if self._path else {}
        self._changed = self._saving = False
        self._saved_at = -math.inf

    def measured(self, key: str) -> list[Measurement]:
        """The measurements of a source, oldest first."""
        with self.lock:
            return list(self._history(key).measured)

    def load_times(self, key: str) -> list[float]:
        """Seconds that the source's model took to load, oldest first."""
        with self.lock:
            return list(self._history(key).load_times)

    def add(self, key: str, measurement: Measurement) -> None:
        """Add a measurement and drop the oldest beyond 64. If it has no `at`, it ended now."""
        measurement = measurement if measurement.at else replace(measurement, at=self._clock())
        with self.lock:
            self._history(key).add(measurement)
            self._changed = True
        self._save_if_due()

    def add_load_time(self, key: str, seconds: float) -> None:
        """Add the time that the source's model took to load; the last eight are kept."""
        with self.lock:
            self._history(key).load_times.append(seconds)
            self._changed = True
        self._save_if_due()

    def forget(self, key: str) -> None:
        """Drop what was measured of a source that is another one now."""
        with self.lock:
            if self._histories.pop(key, None):
                self._changed = True
        self._save_if_due()

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
        """See DeviceTimes.predict. Adds the load time unless the model is `loaded`."""
        with self.lock:
            history = self._history(key)
            times, load = history.on_device, 0.0 if loaded else history.load_time
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

        A cloud without a measurement in the last hour is unknown: if it was slow then, it would
        otherwise never be tried again.
        """
        with self.lock:
            history = self._history(key)
            if not history.measured or self._clock() - history.measured[-1].at > HOUR:
                return UNKNOWN
            times = history.in_cloud
        return times.predict(position=position, max_tokens=max_tokens, expected_wait=expected_wait)

    def save(self) -> None:
        """Add to the file what is not in it yet."""
        with self.save_lock:
            if not self._path or self._saving:
                return  # the garbage collector has ended a stream while this thread saves
            with self.lock:
                changed, self._changed = self._changed, False
                new = {key: history.copy() for key, history in self._histories.copy().items()}
            if changed:
                self._saving = True
                try:
                    merge(self._path, new, self._clock())
                finally:
                    self._saving = False
                self._saved_at = self._clock()

    def _save_if_due(self) -> None:
        if abs(self._clock() - self._saved_at) >= _SAVE_EVERY:  # abs: clocks are set back, too
            self.save()

    def _history(self, key: str) -> History:
        return self._histories.setdefault(key, History())
