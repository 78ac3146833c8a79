"""What the benchmarks share: options, rounds in turn, medians, tables, and JSON as the last line."""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

K = TypeVar("K")
T = TypeVar("T")

UNITS = {"ms": (1e-3, 2), "µs": (1e-6, 0), "MB": (1e6, 0), "%": (1e-2, 1), "tokens/s": (1, 1)}


def text(value: float, unit: str) -> str:
    """A figure in one of UNITS, with its number of digits after the point."""
    size, digits = UNITS[unit]
    return f"{value / size:.{digits}f}"


def arguments(doc: str | None, *paths: str, **defaults: Any) -> argparse.ArgumentParser:
    """A parser with positional paths, and an option for each default (a type: None by default)."""
    parser = argparse.ArgumentParser(description=doc)
    for path in paths:
        parser.add_argument(path, type=Path)
    for name, default in defaults.items():
        kind = default if isinstance(default, type) else type(default)
        parser.add_argument(f"--{name}", type=kind, default=None if kind is default else default)
    return parser


def in_turn(runs: Mapping[K, Callable[[], T]], rounds: int, warm_up: int = 1) -> dict[K, list[T]]:
    """What each run returned in each round, without the first `warm_up` rounds.

    They take turns, so that what else the machine does slows all alike.
    """
    found: dict[K, list[T]] = {name: [] for name in runs}
    for index in range(warm_up + rounds):
        for name, run in runs.items():
            result = run()
            if index >= warm_up:
                found[name].append(result)
    return found


def seconds(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def rotated(items: Sequence[T], rounds: int) -> Iterator[list[T]]:
    """The items in an order that moves on by one from round to round."""
    for index in range(rounds):
        print(f"round {index + 1} of {rounds}", file=sys.stderr, flush=True)
        first = index % len(items)
        yield [*items[first:], *items[:first]]


def add(found: dict[str, list[float]], figures: Mapping[str, float]) -> None:
    """Append a round's figures."""
    for name, value in figures.items():
        found.setdefault(name, []).append(value)


def medians(found: Mapping[K, Sequence[float]]) -> dict[K, float]:
    """Of each figure, over its rounds."""
    return {name: statistics.median(values) for name, values in found.items()}


def show(result: Mapping[str, object]) -> None:
    """Print a line for each figure, then all as JSON."""
    width = max(map(len, result))
    for name, value in result.items():
        print(f"{name:>{width}}: {value}")
    print(json.dumps(result))


def markdown(head: Sequence[object], rows: Sequence[Sequence[object]]) -> str:
    """A table whose columns, except the first, are aligned to the right."""
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join(f"| {' | '.join(map(str, cells))} |" for cells in lines)
