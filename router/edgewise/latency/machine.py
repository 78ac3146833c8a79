"""An identifier for what a model's speed depends on in this machine."""

import contextlib
import hashlib
import os
import platform
from functools import cache
from pathlib import Path

from edgewise_edge.readings import reading


@cache
def machine() -> str:
    """Eight hex digits that change with the processor, the usable CPUs, or LiteRT's version."""
    cpus = reading("the number of processors", _cpus)
    identity = f"{platform.machine()} {_processor()} {cpus} {_runtime()}"
    return hashlib.sha256(identity.encode()).hexdigest()[:8]


def _cpus() -> int | None:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _processor() -> str:
    """The processor's name from /proc/cpuinfo; else what Python knows."""
    with (
        contextlib.suppress(OSError),
        Path("/proc/cpuinfo").open(encoding="utf-8", errors="replace") as lines,
    ):
        for line in lines:
            if line.startswith(("model name", "CPU part")):
                return line.partition(":")[2].strip()
    return platform.processor()


def _runtime() -> str:
    try:
        from ai_edge_litert import __version__ as version
    except ImportError:
        return ""
    return str(version)
