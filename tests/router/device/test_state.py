"""The device's state: read in one place, at most once a second."""

import sys
import threading

import psutil
import pytest

from edgewise import Router
from edgewise.device.state import MAX_AGE, CachedProbe, read_device_state
from edgewise.policy.types import DeviceState
from edgewise.testing import ScriptedDevice


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
        return DeviceState(battery=0.5)


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


def test_failed_probe_gives_an_unknown_state_and_is_called_again():
    """After a second."""
    clock = FakeClock()
    cached = CachedProbe(BrokenProbe(), clock)
    assert cached() == DeviceState()
    clock.now += MAX_AGE * 1.01
    assert cached() == DeviceState(battery=0.5)


@pytest.mark.parametrize(
    "impossible",
    [
        {"battery": 85},
        {"battery": -0.1},
        {"battery": True},
        {"temperature": 127.0},
        {"temperature": "45"},
        {"temperature_limit": float("nan")},
        {"memory_pressure": 12.5},
        {"memory_pressure": float("nan")},
        {"available_memory": -1},
        {"available_memory": 1.5e9},
        {"charging": "no"},
        {"low_power_mode": 1},
    ],
    ids=str,
)
def test_what_cannot_be_true_is_unknown(impossible):
    """A probe's other values count."""
    known = {"battery": 0.5, "temperature": 40.0}
    expected = {name: value for name, value in known.items() if name not in impossible}
    cached = CachedProbe(lambda: DeviceState(**known | impossible))
    assert cached() == DeviceState(**expected)


@pytest.mark.parametrize(
    "state", [None, {"battery": 0.5}, DeviceState], ids=["None", "dict", "class"]
)
def test_a_probe_of_another_kind_gives_an_unknown_state(state):
    """It is the app's mistake, and no reason to fail its requests."""
    assert CachedProbe(lambda: state)() == DeviceState()


FAULTS = [KeyError, AttributeError, TypeError, OSError, ValueError, RecursionError, MemoryError]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_probe_that_raises_fails_no_request(fault):
    """A private one is answered too."""

    def probe() -> DeviceState:
        raise fault("made to fail")

    with Router(ScriptedDevice("an answer"), device=probe) as router:
        assert router.generate("a prompt", privacy="private").text == "an answer"


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", ["virtual_memory", "sensors_temperatures", "sensors_battery"])
def test_whatever_psutil_raises_the_rest_is_read(monkeypatch, name, fault):
    """What it cannot read is unknown."""

    def fail() -> None:
        raise fault("made to fail")

    monkeypatch.setattr(psutil, name, fail, raising=False)
    monkeypatch.setattr("sys.platform", "darwin" if name == "sensors_battery" else sys.platform)
    state = read_device_state()
    assert isinstance(state, DeviceState)
    assert state.temperature is None or name != "sensors_temperatures"
    assert state.battery is None or name != "sensors_battery"


def test_state_of_this_device_can_be_read():
    """Each value is plausible or unknown."""
    state = read_device_state()
    assert isinstance(state, DeviceState)
    assert state.available_memory is None or state.available_memory >= 0
    assert state.battery is None or 0 <= state.battery <= 1


def test_probe_that_hangs_counts_as_unknown(caplog):
    """As where a driver does not answer. It is called again once it has returned."""
    clock, answer, calls = FakeClock(), threading.Event(), []

    def stuck() -> DeviceState:
        calls.append(threading.current_thread())
        answer.wait()
        return DeviceState(battery=0.5)

    probe = CachedProbe(stuck, clock, timeout=0.01)
    for _ in range(3):
        assert probe() == DeviceState()
        clock.now += MAX_AGE + 1
    assert len(calls) == 1
    assert calls[0].daemon  # or the process could not end
    assert sum("more than 0.01 s" in message for message in caplog.messages) == 1
    answer.set()
    calls[0].join()
    assert probe() == DeviceState(battery=0.5)


def test_probe_is_called_where_no_thread_can_be_started(monkeypatch):
    """As at a limit of processes."""

    def fail(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", fail)
    assert CachedProbe(CountingProbe(), FakeClock())() == DeviceState(temperature=1.0)
