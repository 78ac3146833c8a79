"""How much memory this process can still take, on Linux and elsewhere.

In a container /proc/meminfo describes the host. The limits that get a process killed or throttled
are those of its control group and of every ancestor (cgroups(7);
Documentation/admin-guide/cgroup-v2.rst). Nothing here raises: what cannot be read is unknown, and an
odd line hides nothing but itself.
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from edgewise_edge.checks import Range
from edgewise_edge.readings import reading

_BYTES = Range(0, 2**63 - 1, whole=True)
_SHARE = Range(0, 1)
# Version 1's "no limit": the largest page-aligned number.
_NO_LIMIT = 0x7FFF_FFFF_FFFF_F000
# Memory the kernel reclaims before it kills anything in a group.
_RECLAIMABLE = ("inactive_file", "active_file", "slab_reclaimable")
_AVAILABLE = re.compile(r"^MemAvailable:\s+(\d+) kB$", re.MULTILINE)
_STALLED = re.compile(r"^full .*?\bavg10=(\S+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class _Controller:
    """The file names of one cgroup version."""

    limits: tuple[str, ...]
    current: str
    prefix: str  # of the counters in memory.stat that include descendants


# Beyond memory.max a group is killed; beyond memory.high it is slowed down to a crawl.
_VERSION_2 = _Controller(("memory.max", "memory.high"), "memory.current", "")
_VERSION_1 = _Controller(("memory.limit_in_bytes",), "memory.usage_in_bytes", "total_")


def available_memory(proc: Path = Path("/proc")) -> int | None:
    """Bytes available: the least of the system's and each enclosing cgroup's headroom; None: unknown."""
    system = reading("the system's available memory", lambda: _system_memory(proc), _BYTES)
    groups = reading(
        "the memory of the control groups", lambda: min(_cgroup_headrooms(proc), default=None)
    )
    return min((value for value in (system, groups) if value is not None), default=None)


def total_memory(proc: Path = Path("/proc")) -> int | None:
    """Bytes that there are: the least of the system's and each enclosing cgroup's limit; None: unknown."""
    system = reading("the system's memory", _system_total, _BYTES)
    groups = reading(
        "the limits of the control groups", lambda: min(_cgroup_limits(proc), default=None)
    )
    return min((value for value in (system, groups) if value is not None), default=None)


def memory_pressure(proc: Path = Path("/proc")) -> float | None:
    """Share of the last 10 s in which all tasks stalled on memory (PSI); None without PSI."""

    def read() -> float | None:
        found = _STALLED.search(_read(proc / "pressure" / "memory"))
        return float(found[1]) / 100 if found else None

    return reading("the memory pressure", read, _SHARE)


def _system_memory(proc: Path) -> int:
    with suppress(ValueError):  # too many digits
        if found := _AVAILABLE.search(_read(proc / "meminfo")):
            return int(found[1]) * 1024
    import psutil  # takes 10 ms, which would delay a cold start

    return psutil.virtual_memory().available


def _system_total() -> int:
    import psutil

    return psutil.virtual_memory().total


def _cgroup_headrooms(proc: Path) -> Iterator[int]:
    for folder, controller in _cgroups(proc):
        headroom = _headroom(folder, controller)
        if headroom is not None:
            yield headroom


def _cgroup_limits(proc: Path) -> Iterator[int]:
    for folder, controller in _cgroups(proc):
        limit = _limit(folder, controller)
        if limit is not None:
            yield limit


def _cgroups(proc: Path) -> Iterator[tuple[Path, _Controller]]:
    """The folder of each group that this process is in."""
    for controller, mount, group in _memberships(proc):
        for depth in range(len(group.parts) + 1):  # the mount itself, then down to the group
            yield mount.joinpath(*group.parts[:depth]), controller


def _memberships(proc: Path) -> Iterator[tuple[_Controller, Path, Path]]:
    """(version, mount point, this process's group relative to it) for each memory hierarchy."""
    mounts = _read(proc / "self/mountinfo").split("\n")
    for line in _read(proc / "self/cgroup").split("\n"):
        hierarchy, names, group = (*line.split(":", 2), "", "")[:3]
        if hierarchy == "0":
            controller, kind = _VERSION_2, "cgroup2"
        elif "memory" in names.split(","):
            controller, kind = _VERSION_1, "cgroup"
        else:
            continue
        for root, mount in _mounts(mounts, kind):
            # In a container the mount shows only a subtree; groups outside it cannot be read.
            below = Path(group)
            if below.is_relative_to(root) and ".." not in below.parts:
                yield controller, mount, below.relative_to(root)


def _mounts(lines: list[str], kind: str) -> Iterator[tuple[Path, Path]]:
    """(root, mount point) of each mount of that kind with memory control (proc_pid_mountinfo(5))."""
    for line in lines:
        before, _, after = line.partition(" - ")
        fields, tail = before.split(), after.split()
        if len(fields) < 5 or not tail or tail[0] != kind:
            continue
        root, mount = Path(_unescaped(fields[3])), Path(_unescaped(fields[4]))
        controls_memory = kind == "cgroup2" or "memory" in tail[-1].split(",")
        if controls_memory and root.is_absolute() and mount.is_absolute():
            yield root, mount


def _unescaped(field: str) -> str:
    """A mountinfo field with its octal escapes (\\040 for a space) undone."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)


def _headroom(folder: Path, controller: _Controller) -> int | None:
    """Bytes left below the group's limits; all of the limit if the usage cannot be read."""
    limit = _limit(folder, controller)
    if limit is None:
        return None
    usage = _number(_read(folder / controller.current)) or 0
    return max(0, limit - max(0, usage - _reclaimable(folder, controller)))


def _limit(folder: Path, controller: _Controller) -> int | None:
    known = [_number(_read(folder / name)) for name in controller.limits]
    limit = min((n for n in known if n is not None), default=_NO_LIMIT)
    return limit if limit < _NO_LIMIT else None


def _reclaimable(folder: Path, controller: _Controller) -> int:
    """Bytes; 0 where memory.stat is missing, as the limit holds without it."""
    names = {controller.prefix + name for name in _RECLAIMABLE}
    lines = (line.partition(" ") for line in _read(folder / "memory.stat").splitlines())
    return sum(_number(value) or 0 for name, _, value in lines if name in names)


def _number(text: str) -> int | None:
    """The number of bytes it states; None for "max" and for anything odd."""
    text = text.strip()
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 20 else None


def _read(path: Path) -> str:
    """The file's text, "" if it cannot be read. Mount points may hold any byte but a newline."""
    try:
        return path.read_text(errors="surrogateescape")
    except (OSError, ValueError):  # ValueError: a path with a zero byte
        return ""
