"""The medians of benchmarks.edge.peers as Markdown: all peers, and ours beside the best of them."""

from collections.abc import Iterator, Mapping, Sequence

from benchmarks.measure import MEGABYTES, MICROSECONDS, MILLISECONDS, PERCENT, Unit, markdown
from benchmarks.peers.runtimes import CASES, LLAMA, ONNX, OURS, PEERS, Peer

Figures = dict[str, dict[str, list[float]]]  # by peer and figure, one for each round
Medians = Mapping[str, Mapping[str, float]]  # seconds, bytes, shares
Goal = tuple[str, int, str, Unit, Sequence[Peer]]  # words, bits, figure, its unit, whom to beat

_OURS_ONLY = (
    ("share of the roofline", "roofline share", PERCENT),
    ("own cost of a token", "own cost", MICROSECONDS),
    ("own cost, of the model's step", "own share", PERCENT),
)


def table(medians: Medians, sizes: Mapping[str, int]) -> str:
    """Every peer's figures; `sizes` are its model's bytes."""
    kinds = [f"{kind} {prompt}+{new}" for kind in ("token", "first") for prompt, new in CASES]
    columns = [(kind, MILLISECONDS) for kind in (*kinds, "cold start")] + [("memory", MEGABYTES)]
    head = ["peer", "model, MB", *(f"{figure}, {unit.name}" for figure, unit in columns)]
    rows = [
        [peer.name, MEGABYTES.text(sizes[peer.name])]
        + [unit.text(medians[peer.name][figure]) for figure, unit in columns]
        for peer in PEERS
    ]
    return markdown(head, rows)


def ratios(medians: Medians) -> str:
    """Ours beside the best of each goal's peers; above 1, the peer needs more than we do."""
    rows = []
    for what, bits, figure, unit, peers in _goals():
        best = min(peers, key=lambda peer: medians[peer.name][figure])
        ours, theirs = medians[OURS[bits].name][figure], medians[best.name][figure]
        shown = [f"{unit.text(value)} {unit.name}" for value in (ours, theirs)]
        rows.append([f"{what}, {bits} bits", shown[0], best.name, shown[1], f"{theirs / ours:.2f}"])
    for bits, peer in OURS.items():
        for what, figure, unit in _OURS_ONLY:
            shown = f"{unit.text(medians[peer.name][figure])} {unit.name}"
            rows.append([f"{what}, {bits} bits", shown, "", "", ""])
    return markdown(["goal", "edgewise", "peer", "its", "its / ours"], rows)


def _goals() -> Iterator[Goal]:
    for bits, groups in ((8, [[LLAMA[8]], ONNX[8]]), (4, [[LLAMA[4], *ONNX[4]]])):
        for prompt, new in CASES:
            for peers in groups:
                case = f"{prompt}+{new}"
                yield f"a token at {case}", bits, f"token {case}", MILLISECONDS, peers
    for bits, ours in OURS.items():
        others = [peer for peer in PEERS if peer.bits == bits and peer is not ours]
        yield "the first token after 512", bits, "first 512+128", MILLISECONDS, others
        yield "cold start", bits, "cold start", MILLISECONDS, [LLAMA[bits]]
        yield "memory", bits, "memory", MEGABYTES, [LLAMA[bits]]
