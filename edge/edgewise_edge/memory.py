"""How much memory this process can still take, on Linux and elsewhere.

In a container /proc/meminfo describes the host. The limits that get a process killed are those of
its control group and of every ancestor (cgroups(7); Documentation/admin-guide/cgroup-v2.rst).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# Version 1's "no limit": the largest page-aligned number.
_NO_LIMIT = 0x7FFF_FFFF_FFFF_F000
# Memory the kernel reclaims before it kills anything in a group.
_RECLAIMABLE = ("inactive_file", "active_file", "slab_reclaimable")


@dataclass(frozen=True, slots=True)
class _Controller:
    """The file names of one cgroup version."""

    limit: str
    current: str
    prefix: str  # of the counters in memory.stat that include descendants


_VERSION_2 = _Controller("memory.max", "memory.current", "")
_VERSION_1 = _Controller("memory.limit_in_bytes", "memory.usage_in_bytes", "total_")


def available_memory(proc: Path = Path("/proc")) -> int | None:
    """Bytes available: the least of the system's and each enclosing cgroup's headroom; None: unknown."""
    import psutil  # takes 10 ms, which delays a cold start

    try:
        system = psutil.virtual_memory().available
    except (OSError, RuntimeError):
        system = None
    known = [value for value in (system, *_cgroup_headrooms(proc)) if value is not None]
    return min(known, default=None)


def memory_pressure(proc: Path = Path("/proc")) -> float | None:
    """Share of the last 10 s in which all tasks stalled on memory (PSI); None without PSI."""
    try:
        lines = (proc / "pressure" / "memory").read_text().splitlines()
        full = next(line for line in lines if line.startswith("full"))
        return float(dict(pair.split("=") for pair in full.split()[1:])["avg10"]) / 100
    except (OSError, StopIteration, KeyError, ValueError):
        return None


def _cgroup_headrooms(proc: Path) -> Iterator[int]:
    for controller, mount, group in _memberships(proc):
        folder = mount / group.relative_to("/")
        while folder != mount.parent:
            if (headroom := _headroom(folder, controller)) is not None:
                yield headroom
            folder = folder.parent


def _memberships(proc: Path) -> Iterator[tuple[_Controller, Path, Path]]:
    """(version, mount point, this process's group below it) for each memory hierarchy."""
    groups, mounts = _lines(proc / "self/cgroup"), _lines(proc / "self/mountinfo")
    for line in groups:
        hierarchy, names, group = line.split(":", 2)
        if hierarchy == "0":
            controller, kind = _VERSION_2, "cgroup2"
        elif "memory" in names.split(","):
            controller, kind = _VERSION_1, "cgroup"
        else:
            continue
        for root, mount in _mounts(mounts, kind):
            # In a container the mount shows only a subtree; groups outside it cannot be read.
            below = Path(group)
            if below.is_relative_to(root):
                yield controller, mount, Path("/") / below.relative_to(root)


def _lines(path: Path) -> list[str]:
    """The file's lines; none if it cannot be read. Mount points may hold any byte but a newline."""
    try:
        return path.read_text(errors="surrogateescape").split("\n")[:-1]
    except OSError:
        return []


def _mounts(lines: list[str], kind: str) -> Iterator[tuple[Path, Path]]:
    """(root, mount point) of each mount of that kind with memory control (proc_pid_mountinfo(5))."""
    for line in lines:
        before, _, after = line.partition(" - ")
        fields, tail = before.split(), after.split()
        if tail[0] == kind and (kind == "cgroup2" or "memory" in tail[-1].split(",")):
            yield Path(_unescaped(fields[3])), Path(_unescaped(fields[4]))


def _unescaped(field: str) -> str:
    """A mountinfo field with its octal escapes (\\040 for a space) undone."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)


def _headroom(folder: Path, controller: _Controller) -> int | None:
    try:
        limit = (folder / controller.limit).read_text().strip()
        if limit == "max" or int(limit) >= _NO_LIMIT:
            return None
        current = int((folder / controller.current).read_text())
        stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        reclaimable = sum(int(stat.get(controller.prefix + name, 0)) for name in _RECLAIMABLE)
    except (OSError, ValueError):
        return None
    return max(0, int(limit) - max(0, current - reclaimable))
