"""Which machine this is, as far as the speed of a model depends on it."""

import contextlib
import hashlib
import os
import platform
from functools import cache
from pathlib import Path


@cache
def machine() -> str:
    """Eight hex digits that change with the processor, the CPUs usable, or LiteRT's version."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    told = f"{platform.machine()} {_processor()} {cpus} {_runtime()}"
    return hashlib.sha256(told.encode()).hexdigest()[:8]


def _processor() -> str:
    """The processor's name, where Linux tells it (on x86); else what Python knows."""
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
