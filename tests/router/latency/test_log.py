"""What was measured is remembered, in memory and in a file; whatever the file holds."""

import json
import threading
from dataclasses import replace

import pytest

from edgewise.latency.log import LatencyLog, Measurement, default_path, machine
from edgewise.policy.types import UNKNOWN

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
    """A log on that file, at a time that stands still."""
    return LatencyLog(path, clock=lambda: now)


def written(path) -> list[int]:
    """The numbers of the measurements that the file holds."""
    return [row.position - 1 for row in opened(path).measured("side")]


@pytest.fixture
def path(tmp_path):
    """Where a file may be."""
    return tmp_path / "latency.json"


# What one measurement may be.


@pytest.mark.parametrize(
    "wrong",
    [
        {"position": 0},
        {"uncached": 0},
        {"uncached": 11},
        {"uncached": 1.5},
        {"tokens": 0},
        {"position": 2**40},
        {"first_token": -0.1},
        {"first_token": float("nan")},
        {"decode_time": float("inf")},
        {"queued": -1},
    ],
)
def test_what_cannot_have_been_is_refused(wrong):
    """A measurement of nonsense says so at once."""
    right = {"position": 10, "uncached": 10, "first_token": 0.1, "tokens": 3}
    Measurement(**right)
    with pytest.raises(ValueError, match="cannot be"):
        Measurement(**right | wrong)


# In memory.


def test_a_log_without_a_file_remembers():
    """What was added is there, oldest first."""
    log = opened(None)
    log.add("side", numbered(1))
    log.add("side", numbered(2))
    log.save()
    assert log.measured("side") == [numbered(1), numbered(2)]


def test_sides_are_kept_apart():
    """What was measured on one side says nothing about another."""
    log = opened(None)
    log.add("one", numbered(1))
    log.add_load_time("one", 2.0)
    assert log.measured("another") == []
    assert log.load_times("another") == []


def test_what_is_told_is_a_copy():
    """Changing the lists that were given changes nothing in the log."""
    log = opened(None)
    log.add("side", numbered(1))
    log.add_load_time("side", 2.0)
    log.measured("side").clear()
    log.load_times("side").clear()
    assert log.measured("side") == [numbered(1)]
    assert log.load_times("side") == [2.0]


def test_the_oldest_are_forgotten(path):
    """The latest 64 measurements and eight loads of a side are kept, in memory and in the file."""
    log = opened(path)
    for number in range(70):
        log.add("side", numbered(number))
        log.add_load_time("side", float(number))
    log.save()
    for known in (log, opened(path)):
        assert known.measured("side") == [numbered(number) for number in range(6, 70)]
        assert known.load_times("side") == [float(number) for number in range(62, 70)]


def test_a_measurement_without_a_time_ended_when_it_was_added():
    """The log's clock says when that was."""
    log = opened(None)
    log.add("side", numbered(1, at=0.0))
    assert log.measured("side") == [numbered(1, at=NOW)]


def test_an_unmeasured_side_is_unknown():
    """Nothing is predicted of it, loaded or not."""
    log = opened(None)
    device = log.predict_on_device("side", position=9, uncached=9, max_tokens=9, loaded=False)
    cloud = log.predict_in_cloud("side", position=9, max_tokens=9, expected_wait=1.0)
    for predicted in (device, cloud):
        assert (predicted.first_token, predicted.total, predicted.gap) == (None, None, None)


def test_what_is_predicted_follows_what_is_added():
    """Asked once, a log learns from each measurement after it."""
    log = opened(None)
    slow = Measurement(position=9, uncached=9, first_token=1.0, tokens=11, decode_time=1.0)
    fast = replace(slow, first_token=0.1, decode_time=0.1)
    ask = {"position": 9, "max_tokens": 11}
    log.add("side", slow)
    assert log.predict_on_device("side", uncached=9, **ask).total == pytest.approx(2.0, rel=0.05)
    assert log.predict_in_cloud("side", **ask).total == pytest.approx(2.0)
    for _ in range(64):
        log.add("side", fast)
    assert log.predict_on_device("side", uncached=9, **ask).total == pytest.approx(0.2, rel=0.05)
    assert log.predict_in_cloud("side", **ask).total == pytest.approx(0.2)


def test_a_model_that_is_not_loaded_takes_the_median_load_longer():
    """First token and total; what loading takes once in a while is no measure."""
    log, ask = opened(None), {"position": 9, "uncached": 9, "max_tokens": 2}
    log.add("side", numbered(8))
    for seconds in (2.0, 30.0, 1.0):
        log.add_load_time("side", seconds)
    loaded = log.predict_on_device("side", **ask)
    cold = log.predict_on_device("side", **ask, loaded=False)
    assert cold.first_token == pytest.approx(loaded.first_token + 2.0)
    assert cold.total == pytest.approx(loaded.total + 2.0)
    assert cold.gap == loaded.gap


def test_threads_may_add_and_ask_at_once(path):
    """Nothing that eight threads add is lost, and the file is whole after each save."""
    log, ready = opened(path), threading.Barrier(8)

    def work(name: int) -> None:
        ready.wait()
        for number in range(40):
            log.add(f"side {name}", numbered(number))
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
            assert known.measured(f"side {name}") == [numbered(number) for number in range(40)]


# In the file.


def test_measurements_are_kept_across_runs(tmp_path):
    """Another log on the same file knows what the first was told, and predicts the same."""
    path = tmp_path / "folder" / "that is made" / "latency.json"
    log = opened(path)
    log.add("one", numbered(1))
    log.add("another", numbered(2))
    log.add_load_time("one", 0.25)
    log.save()
    reread = opened(path)
    assert reread.measured("one") == [numbered(1)]
    assert reread.measured("another") == [numbered(2)]
    assert reread.load_times("one") == [0.25]
    ask = {"position": 100, "uncached": 50, "max_tokens": 9, "loaded": False}
    assert reread.predict_on_device("one", **ask) == log.predict_on_device("one", **ask)


@pytest.mark.parametrize("later", [5.0, -5.0])
def test_the_file_is_written_now_and_then(path, later):
    """The first measurement is written at once, those of the next five seconds with another."""
    now = NOW
    log = LatencyLog(path, clock=lambda: now)
    log.add("side", numbered(1))
    assert written(path) == [1]
    now += later * 0.9
    log.add("side", numbered(2))
    assert written(path) == [1]
    now = NOW + later
    log.add("side", numbered(3))
    assert written(path) == [1, 2, 3]


def test_what_is_not_written_yet_is_saved(path):
    """So that nothing is lost at the end."""
    log = opened(path)
    for number in range(3):
        log.add("side", numbered(number))
    log.save()
    assert written(path) == [0, 1, 2]


def test_nothing_new_is_not_written(path):
    """A log that was asked only, or has saved all, leaves the file to others."""
    asked = opened(path)
    asked.measured("side")
    asked.predict_on_device("side", position=9, uncached=9, max_tokens=9)
    asked.save()
    assert not path.exists()
    log = opened(path)
    log.add("side", numbered(1))
    log.save()
    path.unlink()
    log.save()
    assert not path.exists()


def test_of_two_logs_the_last_to_write_wins(path):
    """Two processes that keep one file overwrite each other's, and leave it whole."""
    one, other = opened(path), opened(path)
    one.add("side", numbered(1))
    other.add("side", numbered(2))
    assert written(path) == [2]


def test_nothing_is_left_beside_the_file(path):
    """The file is written whole and alone: no half-written neighbour stays."""
    log = opened(path)
    for number in range(3):
        log.add("side", numbered(number))
        log.save()
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_what_is_older_than_a_month_is_dropped(path):
    """Nor is what comes from the future believed, beyond a minute; a side of nothing else goes."""
    log, ages = opened(path), {0: 31 * DAY, 1: 29 * DAY, 2: 0.0, 3: -30.0, 4: -300.0}
    for number, age in ages.items():
        log.add("side", numbered(number, at=NOW - age))
    log.add("gone", numbered(0, at=NOW - 31 * DAY))
    log.add_load_time("gone", 1.0)
    log.save()
    assert written(path) == [1, 2, 3]
    assert opened(path).load_times("gone") == []


def test_the_sides_measured_last_are_kept(path):
    """Of many addresses that a cloud has had, the file holds the latest 32."""
    log = opened(path)
    for number in range(40):
        log.add(f"side {number}", numbered(number, at=NOW + number))
    log.save()
    known = opened(path, NOW + 40)
    assert [number for number in range(40) if known.measured(f"side {number}")] == [*range(8, 40)]


ROW = [9, 9, 0.5, 2, 0.1, 0.0, NOW]


def content(**parts):
    """A file with one side of one row, but for some parts."""
    side = {"measured": [ROW], "loads": [1.0]} | parts.pop("side", {})
    return json.dumps({"version": 2, "sides": {"side": side}} | parts).encode()


def test_the_files_format_is_known(path):
    """What the tests below spoil is otherwise read."""
    path.write_bytes(content())
    assert written(path) == [8]
    assert opened(path).load_times("side") == [1.0]


@pytest.mark.parametrize(
    "spoiled",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"\0" * 100,
        b"[]",
        b"null",
        b"2",
        b"[" * 100_000,
        b'{"version": 2}',
        b'{"side": [{"prompt_tokens": 1, "first_token": 1, "gap": 1}]}',  # of the first release
        content(version=1),
        content(version=3),
        content(sides=[]),
        content(sides={"side": 1}),
        content(sides={"side": [ROW]}),
        content(side={"measured": 1}),
        content(side={"measured": [1]}),
        content(side={"measured": [ROW[:-1]]}),
        content(side={"measured": [[*ROW, 1]]}),
        content(side={"measured": [["9", *ROW[1:]]]}),
        content(side={"measured": [[None, *ROW[1:]]]}),
        content(side={"measured": [[10**400, *ROW[1:]]]}),
        content(side={"measured": [[*ROW[:2], float("nan"), *ROW[3:]]]}),
        content(side={"measured": [[*ROW[:2], 10**400, *ROW[3:]]]}),
        content(side={"measured": [[*ROW[:-1], "now"]]}),
        content(side={"measured": [[*ROW[:-1], float("nan")]]}),
        content(side={"measured": [[*ROW[:-1], 10**400]]}),
        content(side={"loads": 1}),
        content(side={"loads": ["1"]}),
        content(side={"loads": [-1.0]}),
        content(side={"loads": [float("inf")]}),
        content(padding="x" * 2**20),
    ],
)
def test_a_corrupt_file_is_done_without(path, spoiled):
    """A file that makes no sense is an empty log, and the next measurement replaces it."""
    path.write_bytes(spoiled)
    log = opened(path)
    assert log.measured("side") == []
    log.add("side", numbered(1))
    assert written(path) == [1]


@pytest.mark.parametrize("make", ["folder", "link to itself"])
def test_what_is_no_file_is_done_without(path, make):
    """Measurements are then remembered as long as the log lives."""
    if make == "folder":
        (path / "something").mkdir(parents=True)
    else:
        path.symlink_to(path)
    log = opened(path)
    log.add("side", numbered(1))
    log.save()
    assert log.measured("side") == [numbered(1)]


def test_a_path_that_cannot_be_written_is_done_without(tmp_path):
    """Where no file can be made, measurements are remembered as long as the log lives."""
    parent = tmp_path / "a file, no folder"
    parent.write_text("in the way")
    log = opened(parent / "latency.json")
    log.add("side", numbered(1))
    assert log.measured("side") == [numbered(1)]
    assert parent.read_text() == "in the way"


# Where, and for which machine.


def test_measurements_go_to_a_file_of_this_program():
    """Unless told otherwise, they are kept under the program's own name."""
    assert default_path().parts[-1] == "latency.json"
    assert "edgewise" in default_path().parts


def test_another_machine_has_another_name(monkeypatch):
    """The name is short and stays, until the processor or the CPUs are others."""
    here = machine()
    assert machine() == here
    assert len(here) == 8
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(77)), raising=False)
    assert machine.__wrapped__() != here


def test_a_cloud_that_nobody_asked_for_an_hour_is_unknown_again():
    """Slow once, it would not be asked any more, and nobody would learn that it is fast now."""
    now = [1000.0]
    log = LatencyLog(clock=lambda: now[0])
    log.add(
        "cloud", Measurement(position=9, uncached=9, first_token=5.0, tokens=9, decode_time=9.0)
    )
    assert log.predict_in_cloud("cloud", position=9, max_tokens=9).total > 5
    now[0] += 3601
    assert log.predict_in_cloud("cloud", position=9, max_tokens=9) == UNKNOWN
