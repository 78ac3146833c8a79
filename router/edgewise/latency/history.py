"""The measurements of one source, and the predictors fitted to them."""

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeVar

from edgewise.latency.measurement import Measurement
from edgewise.latency.predict import CloudTimes, DeviceTimes
from edgewise.latency.regression import weighted_median

T = TypeVar("T")

WINDOW = 64  # generations
_LOAD_TIMES = 8
# A device's costs are refitted after this many measurements, since that takes most of a
# millisecond. Its slowdown takes a twentieth of that and is updated with each.
_REFIT_EVERY = 8


@dataclass(slots=True)
class History:
    """The latest measurements of one source, oldest first. Not thread-safe."""

    measured: deque[Measurement] = field(default_factory=lambda: deque(maxlen=WINDOW))
    load_times: deque[float] = field(default_factory=lambda: deque(maxlen=_LOAD_TIMES))  # seconds
    _added: int = 0
    _on_device: DeviceTimes | None = None
    _in_cloud: CloudTimes | None = None

    def add(self, measurement: Measurement) -> None:
        """Add one, and update the predictors in use: now, while no request waits for them."""
        self.measured.append(measurement)
        self._added += 1
        if self._on_device:
            refit = self._added % _REFIT_EVERY == 0 or len(self.measured) < 2 * _REFIT_EVERY
            update = DeviceTimes.fitted if refit else self._on_device.rescaled
            self._on_device = update(self._snapshot())
        self._in_cloud = self._in_cloud and CloudTimes.fitted(self._snapshot())

    @property
    def on_device(self) -> DeviceTimes:
        """The predictor, if this source is a device."""
        self._on_device = self._on_device or DeviceTimes.fitted(self._snapshot())
        return self._on_device

    @property
    def in_cloud(self) -> CloudTimes:
        """The predictor, if this source is a cloud."""
        self._in_cloud = self._in_cloud or CloudTimes.fitted(self._snapshot())
        return self._in_cloud

    @property
    def load_time(self) -> float:
        """Median seconds to load the model; 0 if unknown."""
        return (
            weighted_median(self.load_times, [1.0] * len(self.load_times))
            if self.load_times
            else 0.0
        )

    def copy(self) -> "History":
        """One with the same measurements."""
        return History(self.measured.copy(), self.load_times.copy())

    def merged(self, other: "History") -> "History":
        """Both, by time; what is in both counts once."""
        measured = sorted(_union(self.measured, other.measured), key=lambda row: row.at)
        load_times = _union(self.load_times, other.load_times)
        return History(deque(measured, maxlen=WINDOW), deque(load_times, maxlen=_LOAD_TIMES))

    def _snapshot(self) -> list[Measurement]:
        # Fitting allocates, so the garbage collector may end a stream that then adds to `measured`.
        return list(self.measured)


def _union(kept: Iterable[T], new: Iterable[T]) -> list[T]:
    kept = list(kept)
    return [*kept, *(Counter(new) - Counter(kept)).elements()]
