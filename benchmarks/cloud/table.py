"""What benchmarks.cloud.peers found as Markdown: all servers, and ours beside its peers."""

import statistics
from collections.abc import Mapping

from benchmarks.cloud.servers import KERAS, OURS, OURS_16, SERVERS, STREAMS
from benchmarks.measure import MILLISECONDS, RATE, Unit, markdown

Figures = dict[str, dict[str, list[float]]]  # by server and figure, one for each round

_FIGURES = {
    "throughput": (f"{STREAMS} streams", RATE),
    "single throughput": ("one stream", RATE),
    "first p50": ("time to first token, p50", MILLISECONDS),
    "first p99": ("time to first token, p99", MILLISECONDS),
    "gap p50": ("inter-token latency, p50", MILLISECONDS),
    "gap p99": ("inter-token latency, p99", MILLISECONDS),
    "gap max": ("inter-token latency, max", MILLISECONDS),
    "single gap": ("inter-token latency of one stream, p50", MILLISECONDS),
}
# Words, server, the server it is compared with and that one's figure, and the ratio it should reach.
_GOALS = (
    ("to one stream", OURS, OURS, "single throughput", 6),
    (f"to {KERAS}", OURS, KERAS, "throughput", 8),
    ("to llama.cpp F32", OURS, "llama.cpp F32", "throughput", 1.2),
    ("to llama.cpp F16", OURS, "llama.cpp F16", "throughput", 1.2),
    ("in bfloat16, to float32", OURS_16, OURS, "throughput", 1.4),
    ("in bfloat16, to llama.cpp BF16", OURS_16, "llama.cpp BF16", "throughput", ""),
)


def table(medians: Mapping[str, Mapping[str, float]]) -> str:
    """Every server's figures."""
    head = ["server", *(f"{title}, {unit.name}" for title, unit in _FIGURES.values())]
    rows = [
        [server] + [_shown(medians[server][name], unit) for name, (_, unit) in _FIGURES.items()]
        for server in SERVERS
        if server in medians
    ]
    return markdown(head, rows)


def _shown(value: float, unit: Unit) -> str:
    return unit.text(value) if value else ""  # no gaps where all tokens come at once


def ratios(found: Figures) -> str:
    """The median of the rounds' throughput ratios, with the lowest and the highest."""
    rows = []
    for what, ours, other, figure, goal in _GOALS:
        if {ours, other} <= found.keys():
            pairs = zip(found[ours]["throughput"], found[other][figure], strict=True)
            values = [mine / its for mine, its in pairs]
            shown = [statistics.median(values), min(values), max(values)]
            rows.append([f"{STREAMS} streams, {what}", *(f"{ratio:.2f}" for ratio in shown), goal])
    return markdown(["edgewise", "ratio", "lowest round", "highest", "goal"], rows)
