"""The JSON file that keeps measurements. A file that is not valid is ignored.

    {"version": 2, "sides": {KEY: {"measured": [[VALUE, ...], ...], "loads": [SECONDS, ...]}}}

KEY names a source. A row of `measured` holds the fields of a Measurement in their order.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import fields
from operator import attrgetter
from pathlib import Path
from typing import Any

from edgewise.latency.history import History
from edgewise.latency.measurement import Measurement
from edgewise_edge.store.cache_folder import report_unusable
from edgewise_edge.store.files import locked, read_text, write_text

_VERSION = 2
_MAX_AGE = 30 * 24 * 3600.0  # seconds
_MAX_SKEW = 60.0  # seconds by which the clock may have been set back since
_MAX_SOURCES = 32  # a cloud may have had many addresses
_MAX_BYTES = 2**20  # more than such a file needs
_FIELDS = [field.name for field in fields(Measurement)]
_row = attrgetter(*_FIELDS)  # astuple() takes five times as long


def read(path: Path, now: float) -> dict[str, History]:
    """The histories in the file, without measurements older than 30 days; empty if it is invalid."""
    try:
        content = json.loads(read_text(path, _MAX_BYTES))
        if content["version"] != _VERSION:
            return {}
        histories = {key: _history(entry, now) for key, entry in content["sides"].items()}
    except Exception:  # noqa: BLE001  # whatever lies there, it is only not used
        return {}
    return {key: history for key, history in histories.items() if history.measured}


def merge(path: Path, histories: Mapping[str, History], now: float) -> None:
    """Add the histories to those in the file, which other routers and processes may have written.

    If the file cannot be written, one warning is logged.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path.parent):
            kept = read(path, now)
            new = {key: kept.get(key, History()).merged(own) for key, own in histories.items()}
            write_text(path, _to_json(kept | new))
    except OSError as error:
        report_unusable(path.parent, error)


def _to_json(histories: Mapping[str, History]) -> str:
    """The file's content: the sources that were measured last."""
    known = [(key, history) for key, history in histories.items() if history.measured]
    latest = sorted(known, key=lambda item: item[1].measured[-1].at)[-_MAX_SOURCES:]
    kept = {
        key: {
            "measured": [_row(m) for m in history.measured],
            "loads": [*history.load_times],
        }
        for key, history in latest
    }
    return json.dumps({"version": _VERSION, "sides": kept})


def _history(entry: Mapping[str, Any], now: float) -> History:
    measured = [Measurement(**dict(zip(_FIELDS, row, strict=True))) for row in entry["measured"]]
    history = History()
    history.measured.extend(m for m in measured if -_MAX_SKEW <= now - m.at <= _MAX_AGE)
    history.load_times.extend(map(_seconds, entry["loads"]))
    return history


def _seconds(value: float) -> float:
    if not 0 <= value < math.inf:
        raise ValueError(f"{value} is not a duration in seconds")
    return value
