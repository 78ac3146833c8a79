"""What cloud_peers.py found as Markdown: all sides, and ours beside its peers."""

import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from cloud_sides import KERAS, LLAMA, OURS, OURS_16, SIDES, STREAMS
from edge_table import MILLISECONDS, Unit, markdown

Rounds = Mapping[str, Mapping[str, Sequence[float]]]  # by side and figure
_RATE = Unit("tokens/s", 1, 1)
_FIGURES = (
    ("together", f"{STREAMS} streams", _RATE),
    ("alone", "one stream", _RATE),
    ("first p50", "first token, p50", MILLISECONDS),
    ("first p99", "first token, p99", MILLISECONDS),
    ("gap p50", "gap, p50", MILLISECONDS),
    ("gap p99", "gap, p99", MILLISECONDS),
    ("gap max", "gap, longest", MILLISECONDS),
    ("gap alone", "gap of one stream, p50", MILLISECONDS),
)


class Goal(NamedTuple):
    """Our figure over another, in tokens a second, and the least that it is to be."""

    what: str
    ours: tuple[str, str]  # side, figure
    other: tuple[str, str]
    least: float | None


def _all(side: str) -> tuple[str, str]:
    return side, "together"


_GOALS = (
    Goal(f"{STREAMS} streams, to one stream", _all(OURS), (OURS, "alone"), 6),
    Goal(f"{STREAMS} streams, to {KERAS}", _all(OURS), _all(KERAS), 8),
    Goal(f"{STREAMS} streams, to {LLAMA['F32']}", _all(OURS), _all(LLAMA["F32"]), 1.2),
    Goal(f"{STREAMS} streams, to {LLAMA['F16']}", _all(OURS), _all(LLAMA["F16"]), 1.2),
    Goal(f"{STREAMS} streams in bfloat16, to float32", _all(OURS_16), _all(OURS), 1.4),
    Goal(
        f"{STREAMS} streams in bfloat16, to {LLAMA['BF16']}",
        _all(OURS_16),
        _all(LLAMA["BF16"]),
        None,
    ),
)


def table(medians: Mapping[str, Mapping[str, float]]) -> str:
    """Every side's figures."""
    head = ["side", *(f"{title}, {unit.name}" for _, title, unit in _FIGURES)]
    rows = [
        [side.name, *(_shown(medians[side.name][figure], unit) for figure, _, unit in _FIGURES)]
        for side in SIDES
        if side.name in medians
    ]
    return markdown(head, rows)


def _shown(value: float, unit: Unit) -> str:
    return unit.text(value) if value else ""  # no gaps where all tokens come at once


def goals(found: Rounds) -> str:
    """The median of the rounds' ratios, with the lowest and the highest."""
    rows = []
    for goal in _GOALS:
        (ours, our_figure), (other, other_figure) = goal.ours, goal.other
        if {ours, other} <= found.keys():
            pairs = zip(found[ours][our_figure], found[other][other_figure], strict=True)
            ratios = [mine / its for mine, its in pairs]
            shown = [statistics.median(ratios), min(ratios), max(ratios)]
            rows.append([goal.what, *(f"{ratio:.2f}" for ratio in shown), str(goal.least or "")])
    return markdown(["edgewise", "ratio", "lowest round", "highest", "goal"], rows)
