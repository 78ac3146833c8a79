"""The device's state: read in one place, and at most once a second."""

import pytest

from edgewise.device.state import MAX_AGE, CachedProbe, read_device_state
from edgewise.policy.types import DeviceState


class FakeClock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class CountingProbe:
    """A device whose every reading is one degree hotter."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self) -> DeviceState:
        self.asked += 1
        return DeviceState(temperature=float(self.asked))


class BrokenProbe:
    """A probe that fails the first time."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self) -> DeviceState:
        self.asked += 1
        if self.asked == 1:
            raise PermissionError("not now")
        return DeviceState()


def test_a_probe_is_not_asked_before_it_is_needed():
    """Making the cache reads nothing."""
    probe = CountingProbe()
    CachedProbe(probe, FakeClock())
    assert probe.asked == 0


@pytest.mark.parametrize("start", [0.0, 1000.0])
def test_the_first_question_is_asked_whatever_the_clock_says(start):
    """A clock that has just started is no reason to answer without having looked."""
    clock = FakeClock()
    clock.now = start
    assert CachedProbe(CountingProbe(), clock)() == DeviceState(temperature=1.0)


def test_within_a_second_the_probe_is_asked_once():
    """Questions within a second get the state that was read for the first."""
    probe, clock = CountingProbe(), FakeClock()
    cached = CachedProbe(probe, clock)
    states = []
    for _ in range(10):
        states.append(cached())
        clock.now += MAX_AGE / 10
    assert probe.asked == 1
    assert set(states) == {DeviceState(temperature=1.0)}


def test_after_a_second_the_state_is_read_anew():
    """A state older than a second is not given."""
    probe, clock = CountingProbe(), FakeClock()
    cached = CachedProbe(probe, clock)
    cached()
    clock.now += MAX_AGE * 1.01
    assert cached() == DeviceState(temperature=2.0)


def test_asking_does_not_keep_a_state_alive():
    """The age counts from the reading, not from the last question."""
    probe, clock = CountingProbe(), FakeClock()
    cached = CachedProbe(probe, clock)
    for _ in range(31):  # 3.1 s in all, 0.1 s apart
        cached()
        clock.now += MAX_AGE * 0.1
    assert probe.asked in (3, 4)


def test_a_probe_that_fails_is_asked_again():
    """A failed reading is no state: the next question reads at once."""
    cached = CachedProbe(BrokenProbe(), FakeClock())
    with pytest.raises(PermissionError, match="not now"):
        cached()
    assert cached() == DeviceState()


def test_this_devices_state_can_be_read():
    """Every probe of the real device answers or says it does not know."""
    state = read_device_state()
    assert isinstance(state, DeviceState)
    assert state.available_memory is None or state.available_memory >= 0
    assert state.battery is None or 0 <= state.battery <= 1
