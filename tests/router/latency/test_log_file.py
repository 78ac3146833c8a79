"""LatencyLog and its file: kept, shared by processes, or whatever else lies there."""

import errno
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from edgewise.latency.log import LatencyLog, default_path
from edgewise_edge.store.files import locked
from tests.router.latency.logs import DAY, NOW, numbered, numbers_in, opened


@pytest.fixture
def path(tmp_path):
    """The path of a file that does not exist yet."""
    return tmp_path / "latency.json"


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


def test_unchanged_log_is_not_written(path):
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
from tests.router.latency.logs import numbered, opened
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


def test_default_path():
    """It has the program's own name."""
    assert default_path().parts[-1] == "latency.json"
    assert "edgewise" in default_path().parts
