"""Logs of numbered measurements, with a clock that stands still."""

from edgewise.latency.log import LatencyLog
from edgewise.latency.measurement import Measurement

NOW = 1.7e9  # seconds since the epoch
DAY = 24 * 3600.0


def numbered(number: int, at: float = NOW) -> Measurement:
    """A measurement that can be told from others."""
    return Measurement(
        position=number + 1,
        uncached=1,
        first_token=0.5,
        tokens=2,
        decode_time=0.1,
        queued=0.0,
        at=at,
    )


def opened(path, now=NOW) -> LatencyLog:
    """A log on that file with a clock that stands still."""
    return LatencyLog(path, clock=lambda: now)


def numbers_in(path) -> list[int]:
    """The numbers of the measurements in the file."""
    return [row.position - 1 for row in opened(path).measured("source")]
