"""The file in which measurements are kept. Whatever is wrong with it, it is done without.

    {"version": 2, "sides": {KEY: {"measured": [[VALUE, ...], ...], "loads": [SECONDS, ...]}}}

A row of `measured` holds a Measurement's fields in their order.
"""

import contextlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import astuple, fields
from pathlib import Path
from typing import Any

from edgewise.latency.history import History
from edgewise.latency.measurement import Measurement

_VERSION = 2
_KEPT = 30 * 24 * 3600.0  # seconds
_SKEW = 60.0  # seconds by which a clock may have been put back meanwhile
_MOST_SIDES = 32  # a cloud may have had many addresses
_MOST_BYTES = 2**20  # more than such a file holds
_FIELDS = [field.name for field in fields(Measurement)]


def read(path: Path, now: float) -> dict[str, History]:
    """What the file holds, less what is older than 30 days; nothing, if it makes no sense."""
    try:
        with path.open("rb") as file:
            content = json.loads(file.read(_MOST_BYTES))
        if content["version"] != _VERSION:
            return {}
        sides = {key: _history(side, now) for key, side in content["sides"].items()}
    except (
        OSError,
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        ArithmeticError,
        RecursionError,
    ):
        return {}
    return {key: history for key, history in sides.items() if history.measured}


def text(sides: dict[str, History]) -> str:
    """The file's content: the sides that were measured last.

    Of copies, since a stream that is collected meanwhile may add what it measured.
    """
    known = [(key, side) for key, side in sides.copy().items() if side.measured]
    latest = sorted(known, key=lambda item: item[1].measured[-1].at)[-_MOST_SIDES:]
    kept = {
        key: {
            "measured": [astuple(row) for row in list(side.measured)],
            "loads": list(side.load_times),
        }
        for key, side in latest
    }
    return json.dumps({"version": _VERSION, "sides": kept})


def write(path: Path, content: str) -> None:
    """Write beside and rename: another process never reads half a file."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(content, encoding="utf-8")
        partial.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            partial.unlink()


def _history(side: Mapping[str, Any], now: float) -> History:
    measured = [Measurement(**dict(zip(_FIELDS, row, strict=True))) for row in side["measured"]]
    history = History()
    history.measured.extend(m for m in measured if -_SKEW <= now - m.at <= _KEPT)
    history.load_times.extend(map(_seconds, side["loads"]))
    return history


def _seconds(value: float) -> float:
    if not 0 <= value < math.inf:
        raise ValueError(f"{value} is no time that anything took")
    return value
