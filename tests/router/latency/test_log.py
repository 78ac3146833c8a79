"""LatencyLog: measurements in memory and in a file, valid or not."""

import errno
import json
import os
import socket
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from edgewise.latency.log import LatencyLog, default_path
from edgewise.latency.machine import machine
from edgewise.latency.measurement import Measurement
from edgewise.policy.types import UNKNOWN
from edgewise_edge.store.files import locked

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


# In the file.


def test_measurements_are_kept_across_runs(tmp_path):
    """Another log on the same file has the measurements of the first, and predicts the same."""
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
def test_file_is_written_every_few_seconds(path, later):
    """The first measurement at once, those of the next five seconds together."""
    now = NOW
    log = LatencyLog(path, clock=lambda: now)
    log.add("source", numbered(1))
    assert numbers_in(path) == [1]
    now += later * 0.9
    log.add("source", numbered(2))
    assert numbers_in(path) == [1]
    now = NOW + later
    log.add("source", numbered(3))
    assert numbers_in(path) == [1, 2, 3]


def test_save_writes_the_rest(path):
    """So that nothing is lost at the end."""
    log = opened(path)
    for number in range(3):
        log.add("source", numbered(number))
    log.save()
    assert numbers_in(path) == [0, 1, 2]


def test_unchanged_log_is_not_numbers_in(path):
    """A log that was only read, or has been saved, leaves the file alone."""
    asked = opened(path)
    asked.measured("source")
    asked.predict_on_device("source", position=9, uncached=9, max_tokens=9)
    asked.save()
    assert not path.exists()
    log = opened(path)
    log.add("source", numbered(1))
    log.save()
    path.unlink()
    log.save()
    assert not path.exists()


def test_logs_on_one_file_keep_each_others_measurements(path):
    """Those of other routers and processes are added to, in the order of time."""
    one, other = opened(path), opened(path)
    one.add("source", numbered(1, at=NOW - 3))
    one.add_load_time("source", 1.0)
    other.add("source", numbered(2, at=NOW - 2))
    other.add("another", numbered(9))
    one.add("source", numbered(3, at=NOW - 1))
    for log in (one, other, one):
        log.save()
    assert numbers_in(path) == [1, 2, 3]
    assert opened(path).load_times("source") == [1.0]
    assert opened(path).measured("another") == [numbered(9)]


def test_processes_on_one_file_keep_each_others_measurements(path):
    """While all of them write."""
    program = f"""
import sys
from pathlib import Path
from tests.router.latency.test_log import numbered, opened
log = opened(Path({str(path)!r}))
for number in range(20):
    log.add(sys.argv[1], numbered(number))
    log.save()
"""
    command = [sys.executable, "-c", program]
    children = [subprocess.Popen([*command, name]) for name in ("one", "other")]
    assert [child.wait(60) for child in children] == [0, 0]
    for name in ("one", "other"):
        assert opened(path).measured(name) == [numbered(number) for number in range(20)]


def test_lock_that_is_held_for_good_is_not_waited_for(path):
    """Its holder may be stopped."""
    log = opened(path)
    with locked(path.parent):
        log.add("source", numbered(1))
    assert numbers_in(path) == [1]


def test_change_of_the_working_directory_does_not_change_the_file(tmp_path, monkeypatch):
    """A relative path is where it was when the log was made."""
    monkeypatch.chdir(tmp_path)
    log = opened(Path("latency.json"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    log.add("source", numbered(1))
    assert numbers_in(tmp_path / "latency.json") == [1]


def test_no_temporary_file_remains(path):
    """Nothing but the file itself."""
    log = opened(path)
    for number in range(3):
        log.add("source", numbered(number))
        log.save()
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_measurements_older_than_a_month_are_dropped(path):
    """And those more than a minute in the future; a source without any others is dropped."""
    log, ages = opened(path), {0: 31 * DAY, 1: 29 * DAY, 2: 0.0, 3: -30.0, 4: -300.0}
    for number, age in ages.items():
        log.add("source", numbered(number, at=NOW - age))
    log.add("gone", numbered(0, at=NOW - 31 * DAY))
    log.add_load_time("gone", 1.0)
    log.save()
    assert numbers_in(path) == [1, 2, 3]
    assert opened(path).load_times("gone") == []


def test_sources_measured_last_are_kept(path):
    """Of many addresses that a cloud has had, the file keeps the latest 32."""
    log = opened(path)
    for number in range(40):
        log.add(f"source {number}", numbered(number, at=NOW + number))
    log.save()
    known = opened(path, NOW + 40)
    assert [number for number in range(40) if known.measured(f"source {number}")] == [*range(8, 40)]


ROW = [9, 9, 0.5, 2, 0.1, 0.0, NOW]


def content(**parts):
    """A file with one source and one row, except for some parts."""
    source = {"measured": [ROW], "loads": [1.0]} | parts.pop("source", {})
    return json.dumps({"version": 2, "sides": {"source": source}} | parts).encode()


def test_format_of_the_file(path):
    """What the tests below corrupt is valid by itself."""
    path.write_bytes(content())
    assert numbers_in(path) == [8]
    assert opened(path).load_times("source") == [1.0]


@pytest.mark.parametrize(
    "corrupt",
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
        b'{"source": [{"prompt_tokens": 1, "first_token": 1, "gap": 1}]}',  # of the first release
        content(version=1),
        content(version=3),
        content(sides=[]),
        content(sides={"source": 1}),
        content(sides={"source": [ROW]}),
        content(source={"measured": 1}),
        content(source={"measured": [1]}),
        content(source={"measured": [ROW[:-1]]}),
        content(source={"measured": [[*ROW, 1]]}),
        content(source={"measured": [["9", *ROW[1:]]]}),
        content(source={"measured": [[None, *ROW[1:]]]}),
        content(source={"measured": [[10**400, *ROW[1:]]]}),
        content(source={"measured": [[*ROW[:2], float("nan"), *ROW[3:]]]}),
        content(source={"measured": [[*ROW[:2], 10**400, *ROW[3:]]]}),
        content(source={"measured": [[*ROW[:-1], "now"]]}),
        content(source={"measured": [[*ROW[:-1], float("nan")]]}),
        content(source={"measured": [[*ROW[:-1], 10**400]]}),
        content(source={"loads": 1}),
        content(source={"loads": ["1"]}),
        content(source={"loads": [-1.0]}),
        content(source={"loads": [float("inf")]}),
        content(padding="x" * 2**20),
    ],
)
def test_corrupt_file_is_ignored(path, corrupt):
    """The log is empty, and the next measurement replaces the file."""
    path.write_bytes(corrupt)
    log = opened(path)
    assert log.measured("source") == []
    log.add("source", numbered(1))
    assert numbers_in(path) == [1]


def lay_socket(path):
    """A Unix domain socket."""
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


LAYING = {
    "folder": lambda path: (path / "something").mkdir(parents=True),
    "fifo": os.mkfifo,
    "socket": lay_socket,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "link to itself": lambda path: path.symlink_to(path),
    "link": lambda path: path.symlink_to(path.with_name("others")),
    "unreadable": lambda path: path.touch(mode=0),
}


@pytest.mark.parametrize("kind", LAYING)
def test_whatever_lies_at_the_path_is_ignored(path, kind):
    """And replaced, but for a folder; what a link leads to is neither read for good nor written."""
    others = path.with_name("others")
    others.write_text("theirs")
    LAYING[kind](path)
    log = opened(path)
    log.add("source", numbered(1))
    log.save()
    assert log.measured("source") == [numbered(1)]
    assert others.read_text() == "theirs"
    assert numbers_in(path) == ([] if kind == "folder" else [1])


@pytest.mark.parametrize("failure", [errno.ENOSPC, errno.EROFS])
def test_full_disk_is_logged_once(path, monkeypatch, caplog, failure):
    """The log keeps its measurements in memory."""

    def fail(*_):
        raise OSError(failure, os.strerror(failure))

    monkeypatch.setattr("edgewise.latency.store.write_text", fail)
    log = opened(path)
    for number in range(2):
        log.add("source", numbered(number))
        log.save()
    assert len(log.measured("source")) == 2
    assert [os.strerror(failure) in message for message in caplog.messages] == [True]


def test_unwritable_path_is_ignored(tmp_path):
    """The log keeps its measurements in memory."""
    parent = tmp_path / "a file, not a folder"
    parent.write_text("in the way")
    log = opened(parent / "latency.json")
    log.add("source", numbered(1))
    assert log.measured("source") == [numbered(1)]
    assert parent.read_text() == "in the way"


# The default path and the machine.


def test_default_path():
    """It has the program's own name."""
    assert default_path().parts[-1] == "latency.json"
    assert "edgewise" in default_path().parts


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
