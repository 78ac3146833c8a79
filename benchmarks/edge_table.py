"""The medians of edge_peers.py as Markdown: all sides, and ours beside its peers."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from edge_sides import CASES, LLAMA, ONNX, OURS, SIDES, Side

Medians = Mapping[str, Mapping[str, float]]  # by side and figure: seconds, bytes, shares


class Unit(NamedTuple):
    """How a figure is shown: in units of `size`, with `digits` after the point."""

    name: str
    size: float
    digits: int

    def text(self, value: float) -> str:
        """The number alone."""
        return f"{value / self.size:.{self.digits}f}"


MILLISECONDS, MEGABYTES = Unit("ms", 1e-3, 2), Unit("MB", 1e6, 0)
PERCENT, MICROSECONDS = Unit("%", 1e-2, 1), Unit("µs", 1e-6, 0)


class Goal(NamedTuple):
    """A figure of ours and the peers whose best it is to beat."""

    what: str
    bits: int
    figure: str
    unit: Unit
    peers: Sequence[Side]


_KINDS = ("token", "first")  # of figures that each case has
_ALONE = (
    ("share of the bandwidth's wall", "wall share", PERCENT),
    ("own cost of a token", "own cost", MICROSECONDS),
    ("own cost, of the model's step", "own share", PERCENT),
)


def table(medians: Medians, sizes: Mapping[str, int]) -> str:
    """Every side's figures; `sizes` are its model's bytes."""
    columns = [
        *((f"{kind} {prompt}+{new}", MILLISECONDS) for kind in _KINDS for prompt, new in CASES),
        ("cold start", MILLISECONDS),
        ("memory", MEGABYTES),
    ]
    head = ["side", "model, MB", *(f"{figure}, {unit.name}" for figure, unit in columns)]
    rows = [
        [side.name, MEGABYTES.text(sizes[side.name])]
        + [unit.text(medians[side.name][figure]) for figure, unit in columns]
        for side in SIDES
    ]
    return markdown(head, rows)


def goals(medians: Medians) -> str:
    """Ours beside the best of each goal's peers; above 1, the peer needs more than we do."""
    rows = [_beside(medians, goal) for goal in _compared()]
    for bits, side in OURS.items():
        for what, figure, unit in _ALONE:
            ours = f"{unit.text(medians[side.name][figure])} {unit.name}"
            rows.append([f"{what}, {bits} bits", ours, "", "", ""])
    return markdown(["goal", "edgewise", "peer", "its", "its / ours"], rows)


def _beside(medians: Medians, goal: Goal) -> list[str]:
    best = min(goal.peers, key=lambda peer: medians[peer.name][goal.figure])
    both = [medians[side.name][goal.figure] for side in (OURS[goal.bits], best)]
    ours, theirs = (f"{goal.unit.text(value)} {goal.unit.name}" for value in both)
    ratio = f"{both[1] / both[0]:.2f}"
    return [f"{goal.what}, {goal.bits} bits", ours, best.name, theirs, ratio]


def _compared() -> Iterator[Goal]:
    for prompt, new in CASES:
        figure = f"token {prompt}+{new}"
        for peers in ([LLAMA[8]], ONNX[8]):
            yield Goal(f"a token at {prompt}+{new}", 8, figure, MILLISECONDS, peers)
    for prompt, new in CASES:
        figure = f"token {prompt}+{new}"
        peers = [LLAMA[4], *ONNX[4]]
        yield Goal(f"a token at {prompt}+{new}", 4, figure, MILLISECONDS, peers)
    for bits, ours in OURS.items():
        peers = [side for side in SIDES if side.bits == bits and side is not ours]
        yield Goal("the first token after 512", bits, "first 512+128", MILLISECONDS, peers)
        yield Goal("cold start", bits, "cold start", MILLISECONDS, [LLAMA[bits]])
        yield Goal("memory", bits, "memory", MEGABYTES, [LLAMA[bits]])


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose columns, but the first, are aligned to the right."""
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
