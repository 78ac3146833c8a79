"""What was measured on one side, and what was learned from it."""

from collections import deque
from dataclasses import dataclass, field

from edgewise.latency.measurement import Measurement
from edgewise.latency.predict import CloudTimes, DeviceTimes
from edgewise.latency.regression import weighted_median

WINDOW = 64  # generations
_LOADS = 8
# Measurements after which a device's costs are learned anew, for it takes most of a millisecond;
# its pace, for a twentieth of that, is learned with each.
_SELDOM = 8


@dataclass(slots=True)
class History:
    """The latest measurements of one side, oldest first. For one thread at a time."""

    measured: deque[Measurement] = field(default_factory=lambda: deque(maxlen=WINDOW))
    load_times: deque[float] = field(default_factory=lambda: deque(maxlen=_LOADS))  # seconds
    _news: int = 0  # measurements added
    _on_device: DeviceTimes | None = None
    _in_cloud: CloudTimes | None = None

    def add(self, measurement: Measurement) -> None:
        """Remember one more, and learn from it, if anyone asked: now, while no request waits."""
        self.measured.append(measurement)
        self._news += 1
        if self._on_device:
            anew = self._news % _SELDOM == 0 or len(self.measured) < 2 * _SELDOM
            learn = DeviceTimes.learned if anew else self._on_device.paced
            self._on_device = learn(self._snapshot())
        self._in_cloud = self._in_cloud and CloudTimes.learned(self._snapshot())

    @property
    def on_device(self) -> DeviceTimes:
        """What was learned, if this is a device."""
        self._on_device = self._on_device or DeviceTimes.learned(self._snapshot())
        return self._on_device

    @property
    def in_cloud(self) -> CloudTimes:
        """What was learned, if this is a cloud."""
        self._in_cloud = self._in_cloud or CloudTimes.learned(self._snapshot())
        return self._in_cloud

    @property
    def load_time(self) -> float:
        """Seconds that loading the model takes, the median; 0 where that is not known."""
        return (
            weighted_median(self.load_times, [1.0] * len(self.load_times))
            if self.load_times
            else 0.0
        )

    def _snapshot(self) -> list[Measurement]:
        # Learning makes objects, so that a stream may be collected, end, and be added meanwhile.
        return list(self.measured)
