"""The device's state: read in one place, at most once a second."""

import pytest

from edgewise.device.state import MAX_AGE, CachedProbe, read_device_state
from edgewise.policy.types import DeviceState


class FakeClock:
    """Time that passes only when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class CountingProbe:
    """A device that is one degree hotter at each reading."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> DeviceState:
        self.calls += 1
        return DeviceState(temperature=float(self.calls))


class BrokenProbe:
    """A probe that fails the first time."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> DeviceState:
        self.calls += 1
        if self.calls == 1:
            raise PermissionError("not now")
        return DeviceState()


def test_probe_is_not_called_before_it_is_needed():
    """Making the cache reads nothing."""
    probe = CountingProbe()
    CachedProbe(probe, FakeClock())
    assert probe.calls == 0


@pytest.mark.parametrize("start", [0.0, 1000.0])
def test_first_call_always_probes(start):
    """Also if the clock has just started."""
    clock = FakeClock()
    clock.now = start
    assert CachedProbe(CountingProbe(), clock)() == DeviceState(temperature=1.0)


def test_probe_is_called_once_within_a_second():
    """All calls return the first state."""
    probe, clock = CountingProbe(), FakeClock()
    cached = CachedProbe(probe, clock)
    states = []
    for _ in range(10):
        states.append(cached())
        clock.now += MAX_AGE / 10
    assert probe.calls == 1
    assert set(states) == {DeviceState(temperature=1.0)}


def test_state_older_than_a_second_is_read_again():
    """It is not returned any more."""
    probe, clock = CountingProbe(), FakeClock()
    cached = CachedProbe(probe, clock)
    cached()
    clock.now += MAX_AGE * 1.01
    assert cached() == DeviceState(temperature=2.0)


def test_age_counts_from_the_reading():
    """Not from the last call."""
    probe, clock = CountingProbe(), FakeClock()
    cached = CachedProbe(probe, clock)
    for _ in range(31):  # 3.1 s in all, 0.1 s apart
        cached()
        clock.now += MAX_AGE * 0.1
    assert probe.calls in (3, 4)


def test_failed_probe_is_called_again():
    """At the next call."""
    cached = CachedProbe(BrokenProbe(), FakeClock())
    with pytest.raises(PermissionError, match="not now"):
        cached()
    assert cached() == DeviceState()


def test_state_of_this_device_can_be_read():
    """Each value is plausible or unknown."""
    state = read_device_state()
    assert isinstance(state, DeviceState)
    assert state.available_memory is None or state.available_memory >= 0
    assert state.battery is None or 0 <= state.battery <= 1
