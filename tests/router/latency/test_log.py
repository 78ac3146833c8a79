"""LatencyLog in memory: measurements, predictions, threads."""

import json
import threading
from dataclasses import replace

import pytest

from edgewise.latency.log import LatencyLog
from edgewise.latency.machine import machine
from edgewise.latency.measurement import Measurement
from edgewise.policy.types import UNKNOWN
from tests.router.latency.logs import NOW, numbered, opened


@pytest.fixture
def path(tmp_path):
    """The path of a file that does not exist yet."""
    return tmp_path / "latency.json"


# A measurement.


@pytest.mark.parametrize(
    "wrong",
    [
        {"position": 0},
        {"uncached": 0},
        {"uncached": 11},
        {"uncached": 1.5},
        {"tokens": -1},
        {"tokens": None},
        {"position": 2**40},
        {"first_token": -0.1},
        {"first_token": float("nan")},
        {"decode_time": float("inf")},
        {"queued": -1},
    ],
)
def test_impossible_measurement_is_rejected(wrong):
    """It raises when it is made."""
    right = {"position": 10, "uncached": 10, "first_token": 0.1, "tokens": 3}
    Measurement(**right)
    with pytest.raises(ValueError, match="is invalid"):
        Measurement(**right | wrong)


# In memory.


def test_log_without_a_file_keeps_measurements():
    """Oldest first."""
    log = opened(None)
    log.add("source", numbered(1))
    log.add("source", numbered(2))
    log.save()
    assert log.measured("source") == [numbered(1), numbered(2)]


def test_sources_are_separate():
    """The measurements of one source say nothing about another."""
    log = opened(None)
    log.add("one", numbered(1))
    log.add_load_time("one", 2.0)
    assert log.measured("another") == []
    assert log.load_times("another") == []


def test_lists_are_copies():
    """Changing a returned list does not change the log."""
    log = opened(None)
    log.add("source", numbered(1))
    log.add_load_time("source", 2.0)
    log.measured("source").clear()
    log.load_times("source").clear()
    assert log.measured("source") == [numbered(1)]
    assert log.load_times("source") == [2.0]


def test_oldest_are_dropped(path):
    """A source keeps its latest 64 measurements and eight load times, in memory and in the file."""
    log = opened(path)
    for number in range(70):
        log.add("source", numbered(number))
        log.add_load_time("source", float(number))
    log.save()
    for known in (log, opened(path)):
        assert known.measured("source") == [numbered(number) for number in range(6, 70)]
        assert known.load_times("source") == [float(number) for number in range(62, 70)]


def test_measurement_without_a_time_ended_now():
    """By the log's clock."""
    log = opened(None)
    log.add("source", numbered(1, at=0.0))
    assert log.measured("source") == [numbered(1, at=NOW)]


def test_unmeasured_source_is_unknown():
    """Nothing is predicted for it, loaded or not."""
    log = opened(None)
    device = log.predict_on_device("source", position=9, uncached=9, max_tokens=9, loaded=False)
    cloud = log.predict_in_cloud("source", position=9, max_tokens=9, expected_wait=1.0)
    for predicted in (device, cloud):
        assert (predicted.first_token, predicted.total, predicted.gap) == (None, None, None)


def test_predictions_follow_measurements():
    """A log updates its predictions with each measurement."""
    log = opened(None)
    slow = Measurement(position=9, uncached=9, first_token=1.0, tokens=11, decode_time=1.0)
    fast = replace(slow, first_token=0.1, decode_time=0.1)
    ask = {"position": 9, "max_tokens": 11}
    log.add("source", slow)
    assert log.predict_on_device("source", uncached=9, **ask).total == pytest.approx(2.0, rel=0.05)
    assert log.predict_in_cloud("source", **ask).total == pytest.approx(2.0)
    for _ in range(64):
        log.add("source", fast)
    assert log.predict_on_device("source", uncached=9, **ask).total == pytest.approx(0.2, rel=0.05)
    assert log.predict_in_cloud("source", **ask).total == pytest.approx(0.2)


def test_unloaded_model_takes_the_median_load_time_longer():
    """For first token and total; an outlier does not count."""
    log, ask = opened(None), {"position": 9, "uncached": 9, "max_tokens": 2}
    log.add("source", numbered(8))
    for seconds in (2.0, 30.0, 1.0):
        log.add_load_time("source", seconds)
    loaded = log.predict_on_device("source", **ask)
    cold = log.predict_on_device("source", **ask, loaded=False)
    assert cold.first_token == pytest.approx(loaded.first_token + 2.0)
    assert cold.total == pytest.approx(loaded.total + 2.0)
    assert cold.gap == loaded.gap


def test_threads_may_add_and_predict_concurrently(path):
    """Nothing that eight threads add is lost, and the file is valid after each save."""
    log, ready = opened(path), threading.Barrier(8)

    def work(name: int) -> None:
        ready.wait()
        for number in range(40):
            log.add(f"source {name}", numbered(number))
            log.predict_on_device("all", position=9, uncached=9, max_tokens=9)
            log.add("all", numbered(number))
            log.save()
            json.loads(path.read_text())

    threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    reread = opened(path)
    for known in (log, reread):
        assert len(known.measured("all")) == 64
        for name in range(8):
            assert known.measured(f"source {name}") == [numbered(number) for number in range(40)]


# The machine, and a cloud.


def test_machine_is_identified(monkeypatch):
    """By a short name that changes with the CPUs, say."""
    here = machine()
    assert machine() == here
    assert len(here) == 8
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(77)), raising=False)
    assert machine.__wrapped__() != here


def test_cloud_without_measurements_for_an_hour_is_unknown():
    """If it was slow then, it would otherwise never be tried again."""
    now = [1000.0]
    log = LatencyLog(clock=lambda: now[0])
    log.add(
        "cloud", Measurement(position=9, uncached=9, first_token=5.0, tokens=9, decode_time=9.0)
    )
    assert log.predict_in_cloud("cloud", position=9, max_tokens=9).total > 5
    now[0] += 3601
    assert log.predict_in_cloud("cloud", position=9, max_tokens=9) == UNKNOWN
