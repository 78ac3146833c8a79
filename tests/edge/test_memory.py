"""Memory this process can still take: made-up /proc and cgroup trees of both versions."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from edgewise_edge.memory import available_memory, memory_pressure

NO_LIMIT_V1 = 0x7FFF_FFFF_FFFF_F000
KB = 1000
# Every limit below is far under this; so is no machine's memory that can run the tests.
MORE_THAN_ANY_LIMIT = 1_000 * KB


class FakeSystem:
    """A /proc of a process in `group`, and the cgroup hierarchy mounted for it."""

    def __init__(self, tmp_path: Path, version: int) -> None:
        self.version = version
        self.proc, self.mount = tmp_path / "proc", tmp_path / "cgroup"
        (self.proc / "self").mkdir(parents=True)
        self.mount.mkdir()

    def join(self, group: str, *, mount_root: str = "/") -> None:
        """Make the process a member of `group`, where `mount_root` is what the mount shows."""
        if self.version == 2:
            lines = [f"0::{group}"]
            mounts = [f"30 24 0:26 {mount_root} {self.mount} rw shared:4 - cgroup2 cgroup2 rw"]
        else:
            lines = ["9:name=systemd:/elsewhere", f"4:cpu,memory:{group}", "3:cpuset:/elsewhere"]
            mounts = [f"30 24 0:26 {mount_root} {self.mount} rw - cgroup cgroup rw,cpu,memory"]
        mounts.append("21 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw")
        (self.proc / "self" / "cgroup").write_text("\n".join(lines) + "\n")
        (self.proc / "self" / "mountinfo").write_text("\n".join(mounts) + "\n")

    def limit(
        self,
        folder: str,
        limit: int | str,
        current: int | str,
        stat: Mapping[str, int] | None = None,
    ) -> Path:
        """Give the group at `folder` below the mount a limit and a usage."""
        names = {
            1: ("memory.limit_in_bytes", "memory.usage_in_bytes"),
            2: ("memory.max", "memory.current"),
        }[self.version]
        path = self.mount / folder
        path.mkdir(parents=True, exist_ok=True)
        lines = "".join(f"{name} {value}\n" for name, value in (stat or {}).items())
        for name, value in zip((*names, "memory.stat"), (limit, current, lines), strict=True):
            (path / name).write_text(f"{value}\n" if name != "memory.stat" else value)
        return path

    def available(self) -> int | None:
        """What is read from it."""
        return available_memory(self.proc)


@pytest.fixture(params=[1, 2], ids=["v1", "v2"])
def system(request, tmp_path):
    """A made-up system with either version of cgroups."""
    return FakeSystem(tmp_path, request.param)


@pytest.fixture
def no_limit(system):
    """What the version writes for "no limit"."""
    return "max" if system.version == 2 else NO_LIMIT_V1


def test_the_groups_headroom_is_what_is_available(system):
    """A group under a limit can take what is left below it."""
    system.join("/app")
    system.limit("app", 100 * KB, 30 * KB)
    assert system.available() == 70 * KB


def test_a_group_over_its_limit_can_take_nothing(system):
    """Usage over the limit is a headroom of zero, never a negative one."""
    system.join("/app")
    system.limit("app", 100 * KB, 130 * KB)
    assert system.available() == 0


@pytest.mark.parametrize(
    ("leaf", "middle", "top", "expected"),
    [(20, 50, 90, 20), (50, 20, 90, 20), (90, 50, 20, 20)],
    ids=["leaf", "parent", "grandparent"],
)
def test_the_tightest_of_nested_limits_counts(system, leaf, middle, top, expected):
    """The least headroom counts, whether it is the group's own or an ancestor's."""
    system.join("/top/middle/leaf")
    for folder, headroom in (("top", top), ("top/middle", middle), ("top/middle/leaf", leaf)):
        system.limit(folder, 100 * KB, (100 - headroom) * KB)
    assert system.available() == expected * KB


def test_headroom_counts_not_the_limit(system):
    """A larger limit with less left below it is the tighter one."""
    system.join("/top/leaf")
    system.limit("top", 500 * KB, 490 * KB)
    system.limit("top/leaf", 100 * KB, 50 * KB)
    assert system.available() == 10 * KB


def test_a_limit_of_the_mounts_own_group_counts(system):
    """In a container the limit is at the mount point itself."""
    system.join("/")
    system.limit(".", 100 * KB, 30 * KB)
    assert system.available() == 70 * KB


def test_nothing_above_the_mount_is_read(system):
    """The folder around the mount point is no cgroup, whatever lies in it."""
    system.join("/app")
    system.limit("app", 100 * KB, 30 * KB)
    system.limit("..", 1 * KB, 0)
    assert system.available() == 70 * KB


def test_no_limit_leaves_the_ancestors(system, no_limit):
    """A group without a limit can take what its ancestors leave."""
    system.join("/top/leaf")
    system.limit("top", 100 * KB, 30 * KB)
    system.limit("top/leaf", no_limit, NO_LIMIT_V1)
    assert system.available() == 70 * KB


def test_without_any_limit_the_systems_memory_counts(system, no_limit):
    """Where no group has a limit, what the system has is available."""
    system.join("/app")
    # Were the limit taken for a number, there would be no headroom.
    system.limit("app", no_limit, NO_LIMIT_V1)
    assert system.available() > MORE_THAN_ANY_LIMIT


def test_the_systems_memory_is_the_most_there_is(system):
    """A limit beyond what the machine has gives nobody more memory."""
    system.join("/app")
    system.limit("app", 2**60, 0)
    assert system.available() < 2**59


@pytest.mark.parametrize("name", ["inactive_file", "active_file", "slab_reclaimable"])
def test_what_the_kernel_gives_back_is_available(system, name):
    """Page cache and reclaimable slab are no usage; descendants' are counted in."""
    prefix = "total_" if system.version == 1 else ""
    system.join("/app")
    system.limit("app", 100 * KB, 80 * KB, {"anon": 5 * KB, f"{prefix}{name}": 30 * KB})
    assert system.available() == 50 * KB


def test_version_1_counts_descendants(tmp_path):
    """Version 1's counters without total_ are the group's alone, and are left aside."""
    system = FakeSystem(tmp_path, 1)
    system.join("/app")
    stat = {"inactive_file": 1 * KB, "total_inactive_file": 30 * KB}
    system.limit("app", 100 * KB, 80 * KB, stat)
    assert system.available() == 50 * KB


def test_more_to_give_back_than_used_is_no_more_than_the_limit(system):
    """Counters read a moment apart cannot lift the headroom over the limit."""
    prefix = "total_" if system.version == 1 else ""
    system.join("/app")
    system.limit("app", 100 * KB, 80 * KB, {f"{prefix}inactive_file": 90 * KB})
    assert system.available() == 100 * KB


@pytest.mark.parametrize("index", [0, 1, 2], ids=["limit", "usage", "stat"])
@pytest.mark.parametrize("damage", ["missing", "unreadable", "garbage"])
def test_a_group_that_cannot_be_read_leaves_its_ancestors(system, index, damage):
    """A group's file that is missing, unreadable or garbled hides that group's limit only."""
    system.join("/top/leaf")
    system.limit("top", 100 * KB, 30 * KB)
    folder = system.limit("top/leaf", 10 * KB, 0)
    limit, usage = (
        ("memory.limit_in_bytes", "memory.usage_in_bytes")
        if system.version == 1
        else ("memory.max", "memory.current")
    )
    path = folder / (limit, usage, "memory.stat")[index]
    path.unlink()
    if damage == "unreadable":
        path.mkdir()  # whoever runs the tests, root included, cannot read a folder as a file
    elif damage == "garbage":
        path.write_text("no number at all\n")
    assert system.available() == 70 * KB


def test_a_group_that_is_gone_leaves_its_ancestors(system):
    """A group whose folder does not exist has no limit of its own."""
    system.join("/top/gone")
    system.limit("top", 100 * KB, 30 * KB)
    assert system.available() == 70 * KB


@pytest.mark.parametrize(
    ("group", "folder"), [("/docker/abc", "."), ("/docker/abc/app", "app")], ids=["itself", "below"]
)
def test_a_mount_that_shows_a_subtree(system, group, folder):
    """Where a container's mount shows a subtree, the group is looked for below that."""
    system.join(group, mount_root="/docker/abc")
    system.limit(folder, 100 * KB, 30 * KB)
    assert system.available() == 70 * KB


def test_a_group_outside_the_mounted_subtree_is_not_read(system):
    """The limit of a subtree this process is not in says nothing about it."""
    system.join("/elsewhere", mount_root="/docker/abc")
    system.limit(".", 100 * KB, 30 * KB)
    assert system.available() > MORE_THAN_ANY_LIMIT


def test_both_versions_at_once(tmp_path):
    """Where version 1 has the memory controller and version 2 is mounted too, either limits."""
    mounts, groups = [], []
    for version, headroom in ((1, 20), (2, 40)):
        system = FakeSystem(tmp_path / str(version), version)
        system.join("/app")
        system.limit("app", 100 * KB, (100 - headroom) * KB)
        groups.append((system.proc / "self" / "cgroup").read_text())
        mounts.append((system.proc / "self" / "mountinfo").read_text())
    (system.proc / "self" / "cgroup").write_text("".join(groups))
    (system.proc / "self" / "mountinfo").write_text("".join(mounts))
    assert system.available() == 20 * KB


def test_a_version_1_mount_without_memory_is_not_read(tmp_path):
    """Another controller's hierarchy says nothing about memory."""
    system = FakeSystem(tmp_path, 1)
    system.join("/app")
    system.limit("app", 100 * KB, 30 * KB)
    mountinfo = system.proc / "self" / "mountinfo"
    mountinfo.write_text(mountinfo.read_text().replace("rw,cpu,memory", "rw,cpu"))
    assert system.available() > MORE_THAN_ANY_LIMIT


@pytest.mark.parametrize("missing", ["cgroup", "mountinfo"])
def test_without_membership_or_mounts_the_systems_memory_counts(system, missing):
    """Where a file of /proc cannot be read, the groups are done without."""
    system.join("/app")
    system.limit("app", 100 * KB, 30 * KB)
    (system.proc / "self" / missing).unlink()
    assert system.available() > MORE_THAN_ANY_LIMIT


def test_without_proc_the_systems_memory_counts(tmp_path):
    """Where there is no /proc at all, what psutil tells is available."""
    assert available_memory(tmp_path / "no such folder") > MORE_THAN_ANY_LIMIT


# Pressure.

PRESSURE = (
    "some avg10=70.00 avg60=60.00 avg300=50.00 total=9000\n"
    "full avg10=12.50 avg60=6.00 avg300=5.00 total=900\n"
)


def pressure_of(tmp_path: Path, text: str) -> float | None:
    """What is read from a /proc/pressure/memory that says `text`."""
    (tmp_path / "pressure").mkdir()
    (tmp_path / "pressure" / "memory").write_text(text)
    return memory_pressure(tmp_path)


def test_pressure_is_the_share_in_which_every_task_stalled(tmp_path):
    """Of the PSI figures, the full one over 10 s is told, as a share."""
    assert pressure_of(tmp_path, PRESSURE) == 0.125


@pytest.mark.parametrize(
    "text",
    [
        "",
        "some avg10=70.00 avg60=60.00 avg300=50.00 total=9000\n",
        "full avg60=6.00 avg300=5.00 total=900\n",
        "full avg10=plenty avg60=6.00 avg300=5.00 total=900\n",
        "full of surprises\n",
    ],
    ids=["empty", "no full line", "no avg10", "no number", "no pairs"],
)
def test_pressure_that_cannot_be_understood_is_unknown(tmp_path, text):
    """A file without the wanted figure gives None."""
    assert pressure_of(tmp_path, text) is None


def test_a_kernel_without_pressure_gives_none(tmp_path):
    """Without PSI the pressure is unknown, not zero."""
    assert memory_pressure(tmp_path) is None
