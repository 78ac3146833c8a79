"""Available memory, read from fake /proc and cgroup trees."""

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from edgewise_edge.memory import available_memory, total_memory

NO_LIMIT_V1 = 0x7FFF_FFFF_FFFF_F000
KB = 1000
# More than every limit below, and less than any machine has that can run the tests.
MORE_THAN_ANY_LIMIT = 1_000 * KB


class FakeSystem:
    """The /proc of a process, and the cgroup hierarchy mounted for it."""

    def __init__(self, tmp_path: Path, version: int) -> None:
        self.version = version
        self.proc, self.mount = tmp_path / "proc", tmp_path / "cgroup"
        (self.proc / "self").mkdir(parents=True)
        self.mount.mkdir()

    def join(self, group: str, *, mount_root: str = "/") -> None:
        """Make the process a member of `group`; the mount shows the tree from `mount_root` on."""
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
        """Set the limit and usage of the group at `folder` below the mount."""
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
        """What available_memory() reads from it."""
        return available_memory(self.proc)


@pytest.fixture(params=[1, 2], ids=["v1", "v2"])
def system(request, tmp_path):
    """A fake system with either version of cgroups."""
    return FakeSystem(tmp_path, request.param)


@pytest.fixture
def no_limit(system):
    """How the version writes "no limit"."""
    return "max" if system.version == 2 else NO_LIMIT_V1


def test_a_groups_headroom_is_available(system):
    """Its limit less its usage."""
    system.join("/app")
    system.limit("app", 100 * KB, 30 * KB)
    assert system.available() == 70 * KB


def test_a_group_over_its_limit_has_no_headroom(system):
    """Zero, never a negative number."""
    system.join("/app")
    system.limit("app", 100 * KB, 130 * KB)
    assert system.available() == 0


@pytest.mark.parametrize(
    ("leaf", "middle", "top", "expected"),
    [(20, 50, 90, 20), (50, 20, 90, 20), (90, 50, 20, 20)],
    ids=["leaf", "parent", "grandparent"],
)
def test_the_least_headroom_of_nested_groups_counts(system, leaf, middle, top, expected):
    """Whether it is the group's own or an ancestor's."""
    system.join("/top/middle/leaf")
    for folder, headroom in (("top", top), ("top/middle", middle), ("top/middle/leaf", leaf)):
        system.limit(folder, 100 * KB, (100 - headroom) * KB)
    assert system.available() == expected * KB


def test_the_least_limit_is_what_there_is(system):
    """Whatever is in use; without one it is the machine's."""
    system.join("/top/leaf")
    system.limit("top", 100 * KB, 90 * KB)
    assert total_memory(system.proc) == 100 * KB
    system.limit("top/leaf", 70 * KB, 0)
    assert total_memory(system.proc) == 70 * KB
    assert total_memory(system.proc / "no such folder") == psutil.virtual_memory().total


def test_the_headroom_counts_not_the_limit(system):
    """A larger limit with less headroom is the tighter one."""
    system.join("/top/leaf")
    system.limit("top", 500 * KB, 490 * KB)
    system.limit("top/leaf", 100 * KB, 50 * KB)
    assert system.available() == 10 * KB


def test_a_limit_of_the_mounts_own_group_counts(system):
    """In a container the limit is in the mount point itself."""
    system.join("/")
    system.limit(".", 100 * KB, 30 * KB)
    assert system.available() == 70 * KB


def test_nothing_above_the_mount_is_read(system):
    """The folder above the mount point is not a cgroup, whatever is in it."""
    system.join("/app")
    system.limit("app", 100 * KB, 30 * KB)
    system.limit("..", 1 * KB, 0)
    assert system.available() == 70 * KB


def test_a_group_without_a_limit_has_its_ancestors_headroom(system, no_limit):
    """The ancestors' limits still apply."""
    system.join("/top/leaf")
    system.limit("top", 100 * KB, 30 * KB)
    system.limit("top/leaf", no_limit, NO_LIMIT_V1)
    assert system.available() == 70 * KB


def test_without_a_limit_the_systems_memory_counts(system, no_limit):
    """All that the system has is available."""
    system.join("/app")
    # If the limit were taken for a number, there would be no headroom.
    system.limit("app", no_limit, NO_LIMIT_V1)
    assert system.available() > MORE_THAN_ANY_LIMIT


def test_no_more_than_the_systems_memory_is_available(system):
    """A limit above it changes nothing."""
    system.join("/app")
    system.limit("app", 2**60, 0)
    assert system.available() < 2**59


@pytest.mark.parametrize("name", ["inactive_file", "active_file", "slab_reclaimable"])
def test_reclaimable_memory_is_available(system, name):
    """Page cache and reclaimable slab do not count as usage; those of descendants included."""
    prefix = "total_" if system.version == 1 else ""
    system.join("/app")
    system.limit("app", 100 * KB, 80 * KB, {"anon": 5 * KB, f"{prefix}{name}": 30 * KB})
    assert system.available() == 50 * KB


def test_version_1_counts_descendants(tmp_path):
    """Version 1's counters without total_ leave them out, and are not used."""
    system = FakeSystem(tmp_path, 1)
    system.join("/app")
    stat = {"inactive_file": 1 * KB, "total_inactive_file": 30 * KB}
    system.limit("app", 100 * KB, 80 * KB, stat)
    assert system.available() == 50 * KB


def test_headroom_is_at_most_the_limit(system):
    """Even if counters, read at different moments, show more reclaimable memory than usage."""
    prefix = "total_" if system.version == 1 else ""
    system.join("/app")
    system.limit("app", 100 * KB, 80 * KB, {f"{prefix}inactive_file": 90 * KB})
    assert system.available() == 100 * KB


@pytest.mark.parametrize(
    ("index", "headroom"), [(0, 70 * KB), (1, 10 * KB), (2, 6 * KB)], ids=["limit", "usage", "stat"]
)
@pytest.mark.parametrize("damage", ["missing", "unreadable", "garbage"])
def test_an_unreadable_file_hides_itself_only(system, index, headroom, damage):
    """A limit still applies without the usage or memory.stat, and without the limit the parent's."""
    system.join("/top/leaf")
    system.limit("top", 100 * KB, 30 * KB)
    folder = system.limit("top/leaf", 10 * KB, 4 * KB)
    limit, usage = (
        ("memory.limit_in_bytes", "memory.usage_in_bytes")
        if system.version == 1
        else ("memory.max", "memory.current")
    )
    path = folder / (limit, usage, "memory.stat")[index]
    path.unlink()
    if damage == "unreadable":
        path.mkdir()  # nobody, root included, can read a folder as a file
    elif damage == "garbage":
        path.write_text("not a number\n")
    assert system.available() == headroom


@pytest.mark.parametrize(
    ("high", "headroom"), [(50 * KB, 20 * KB), ("max", 70 * KB), (200 * KB, 70 * KB)]
)
def test_memory_high_is_a_limit_too(tmp_path, high, headroom):
    """Beyond it the kernel slows the group down to a crawl."""
    system = FakeSystem(tmp_path, 2)
    system.join("/app")
    folder = system.limit("app", 100 * KB, 30 * KB)
    (folder / "memory.high").write_text(f"{high}\n")
    assert system.available() == headroom


def test_memory_high_alone_is_a_limit(tmp_path):
    """Services often have no memory.max."""
    system = FakeSystem(tmp_path, 2)
    system.join("/app")
    (system.limit("app", "max", 30 * KB) / "memory.high").write_text(f"{50 * KB}\n")
    assert system.available() == 20 * KB


@pytest.mark.parametrize("limit", ["-1", "1e3", "10 kB", "9" * 5000, "٣", "nan", ""])
def test_an_odd_limit_is_no_limit(system, limit):
    """Only whole numbers of bytes are limits."""
    system.join("/app")
    system.limit("app", limit, 0)
    assert system.available() > MORE_THAN_ANY_LIMIT


ODD_LINES = ["", "0", "0:", "::", "a:b:c", "0::relative", "30 24 0:26", " - ", "1 - cgroup2", "\0"]


@pytest.mark.parametrize("odd", ODD_LINES)
@pytest.mark.parametrize("file", ["cgroup", "mountinfo"])
def test_an_odd_line_hides_nothing_else(system, file, odd):
    """The other lines' limits apply."""
    system.join("/app")
    system.limit("app", 100 * KB, 30 * KB)
    path = system.proc / "self" / file
    path.write_text(f"{odd}\n{path.read_text()}{odd}\n")
    assert system.available() == 70 * KB


def test_a_group_outside_the_namespace_is_not_read(system):
    """It begins with /.. and its folder would be outside the mount."""
    system.join("/../app")
    system.limit("../app", 100 * KB, 30 * KB)
    assert system.available() > MORE_THAN_ANY_LIMIT


@pytest.mark.parametrize(
    "meminfo", ["", "\n", "MemTotal\n", "MemTotal: lots kB\n", "MemFree: 1 kB\n", "\xff\0\n"]
)
def test_an_odd_meminfo_leaves_the_groups_limits(system, monkeypatch, meminfo):
    """The system's memory is unknown then, and no request fails."""
    system.join("/app")
    system.limit("app", 100 * KB, 30 * KB)
    (system.proc / "meminfo").write_text(meminfo, encoding="latin-1")
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(system.proc))
    assert system.available() == 70 * KB
    assert available_memory(system.proc / "no such folder") is None


def test_the_kernels_own_estimate_is_used(system):
    """Without psutil, whose import takes as long as a short prompt."""
    (system.proc / "meminfo").write_text("MemTotal:  900 kB\nMemAvailable:     50 kB\n")
    assert system.available() == 50 * 1024
    (system.proc / "meminfo").write_text(f"MemAvailable: {'9' * 5000} kB\n")
    assert system.available() > MORE_THAN_ANY_LIMIT


@pytest.mark.parametrize("available", [-1, float("nan"), None, "lots", 2**70])
def test_an_impossible_amount_of_memory_is_unknown(tmp_path, monkeypatch, available):
    """Whatever psutil says."""
    memory = SimpleNamespace(available=available)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    assert available_memory(tmp_path) is None


def test_a_group_without_a_folder_is_skipped(system):
    """Its ancestors' limits still apply."""
    system.join("/top/gone")
    system.limit("top", 100 * KB, 30 * KB)
    assert system.available() == 70 * KB


@pytest.mark.parametrize(
    ("group", "folder"), [("/docker/abc", "."), ("/docker/abc/app", "app")], ids=["itself", "below"]
)
def test_a_mount_may_show_a_subtree(system, group, folder):
    """As in a container; the group's path is relative to it."""
    system.join(group, mount_root="/docker/abc")
    system.limit(folder, 100 * KB, 30 * KB)
    assert system.available() == 70 * KB


def test_a_subtree_without_this_process_is_not_read(system):
    """Its limits do not apply."""
    system.join("/elsewhere", mount_root="/docker/abc")
    system.limit(".", 100 * KB, 30 * KB)
    assert system.available() > MORE_THAN_ANY_LIMIT


def test_both_versions_at_once(tmp_path):
    """If version 1 has the memory controller and version 2 is mounted too, both limits apply."""
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


def test_a_version_1_mount_without_memory_control_is_not_read(tmp_path):
    """It belongs to another controller."""
    system = FakeSystem(tmp_path, 1)
    system.join("/app")
    system.limit("app", 100 * KB, 30 * KB)
    mountinfo = system.proc / "self" / "mountinfo"
    mountinfo.write_text(mountinfo.read_text().replace("rw,cpu,memory", "rw,cpu"))
    assert system.available() > MORE_THAN_ANY_LIMIT


@pytest.mark.parametrize("missing", ["cgroup", "mountinfo"])
def test_without_group_or_mounts_the_systems_memory_counts(system, missing):
    """If a file of /proc cannot be read, no group limits apply."""
    system.join("/app")
    system.limit("app", 100 * KB, 30 * KB)
    (system.proc / "self" / missing).unlink()
    assert system.available() > MORE_THAN_ANY_LIMIT


def test_without_proc_the_systems_memory_counts(tmp_path):
    """As psutil reports it."""
    assert available_memory(tmp_path / "no such folder") > MORE_THAN_ANY_LIMIT
