"""Predicted times, from what was measured on this machine and kept across runs."""

import contextlib
import json
import math
import os
import statistics
import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import platformdirs

from edgewise.policy import PredictedTime

WINDOW = 32  # generations remembered per side
_LATE = 0.9  # the quantile a cloud's first token is predicted by: queues and networks have tails


@dataclass(frozen=True, slots=True)
class Measurement:
    """One generation on one side. Times in seconds, from the side's own start."""

    prompt_tokens: int
    first_token: float
    gap: float | None  # mean time between tokens; None after a single token


def predict_on_device(
    measured: Iterable[Measurement], prompt_tokens: int, max_tokens: int
) -> PredictedTime:
    """Reading takes time for each token of the prompt, writing for each token of the answer."""
    measured = list(measured)
    gaps = [m.gap for m in measured if m.gap is not None]
    if not gaps:
        return PredictedTime()
    gap = statistics.median(gaps)
    # Of a short prompt little can be learned: what a step costs at least would be counted too.
    longest = max(measured, key=lambda m: m.prompt_tokens)
    per_token = [
        m.first_token / max(1, m.prompt_tokens)
        for m in measured
        if 2 * m.prompt_tokens >= longest.prompt_tokens
    ]
    first_token = max(gap, statistics.median(per_token) * prompt_tokens)
    return PredictedTime(first_token, first_token + gap * (max_tokens - 1))


def predict_in_cloud(measured: Iterable[Measurement], max_tokens: int) -> PredictedTime:
    """The first token by a late quantile, the rest by the median gap."""
    measured = list(measured)
    if not measured:
        return PredictedTime()
    first_tokens = sorted(m.first_token for m in measured)
    first_token = first_tokens[math.ceil(_LATE * (len(first_tokens) - 1))]
    gaps = [m.gap for m in measured if m.gap is not None]
    total = first_token + statistics.median(gaps) * (max_tokens - 1) if gaps else None
    return PredictedTime(first_token, total)


def default_path() -> Path:
    """Where measurements are kept: the user's cache folder."""
    return platformdirs.user_cache_path("edgewise") / "latency.json"


class LatencyLog:
    """Measurements by side (any key), in memory and in a JSON file.

    A file that cannot be read or written is done without: predictions are a convenience.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._measured = _load(path) if path else {}

    def measured(self, key: str) -> list[Measurement]:
        """What is known of `key`, oldest first."""
        with self._lock:
            return list(self._measured.get(key, ()))

    def add(self, key: str, measurement: Measurement) -> None:
        """Remember one more, and forget the oldest beyond 32."""
        with self._lock:
            self._measured.setdefault(key, deque(maxlen=WINDOW)).append(measurement)
            if self._path:
                _save(self._path, self._measured)


def _load(path: Path) -> dict[str, deque[Measurement]]:
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        return {
            key: deque((_measurement(row) for row in rows), maxlen=WINDOW)
            for key, rows in raw.items()
        }
    except (OSError, ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        return {}


def _measurement(row: dict[str, Any]) -> Measurement:
    read = Measurement(**row)
    gap = None if read.gap is None else float(read.gap)
    if not all(math.isfinite(time) for time in (float(read.first_token), gap or 0.0)):
        raise ValueError(f"not a time: {row}")
    return Measurement(int(read.prompt_tokens), float(read.first_token), gap)


def _save(path: Path, measured: dict[str, deque[Measurement]]) -> None:
    text = json.dumps({key: [asdict(row) for row in rows] for key, rows in measured.items()})
    # Written beside and renamed: another process never reads half a file.
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            partial.unlink()
