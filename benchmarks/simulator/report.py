"""The comparison as tables, and what is held against the goal."""

from collections.abc import Iterator, Mapping, Sequence

from .figures import Figures

OURS = "ours"

# Figures by strategy.
Compared = Mapping[str, Figures]

_HEAD = (
    "trace",
    "strategy",
    "budgets kept",
    "of those not private",
    "lowest to highest seed",
    "answers lost",
    "tokens in the cloud",
    "tokens on a low battery",
    "energy, kJ",
    "fallbacks",
    "handoffs",
    "private leaks",
)


def table(trace: str, days: Sequence[Compared]) -> Iterator[str]:
    """Rows of Markdown, over all seeds; all but the shares are sums."""
    for name, figures in totals(days).items():
        seeds = [day[name].public_attained for day in days]
        cells = (
            trace,
            name,
            f"{figures.attained:.1%}",
            f"{figures.public_attained:.1%}",
            f"{min(seeds):.1%} to {max(seeds):.1%}",
            figures.lost,
            figures.cloud_tokens,
            figures.unspared,
            f"{figures.joules / 1e3:.1f}",
            figures.fallbacks,
            figures.handoffs,
            figures.leaks,
        )
        yield row(cells)


def head() -> Iterator[str]:
    """The first two rows."""
    yield row(_HEAD)
    yield row(["---", "---", *["---:"] * (len(_HEAD) - 2)])


def row(cells: Sequence[object]) -> str:
    """Of a table in Markdown."""
    return f"| {' | '.join(map(str, cells))} |"


def totals(days: Sequence[Compared]) -> dict[str, Figures]:
    """All seeds together."""
    return {name: sum((day[name] for day in days), Figures()) for name in days[0]}


def verdict(day: Compared) -> dict[str, bool]:
    """Whether ours keeps as many budgets as any other, and sends the cloud the least for it.

    Judged by public requests: an other that answers a private prompt in the cloud has broken a
    promise, not kept a budget. Nothing leaked is part of it.
    """
    ours, others = day[OURS], [figures for name, figures in day.items() if name != OURS]
    as_good = [other for other in others if other.public_kept >= ours.public_kept]
    return {
        "attains": all(ours.public_kept >= other.public_kept for other in others),
        "fewest_tokens": all(ours.cloud_tokens <= other.cloud_tokens for other in as_good),
        "private": ours.leaks == 0,
    }


def regret(day: Compared) -> int:
    """Budgets of public requests that the best of the others kept more than ours; less, below 0."""
    best = max(figures.public_kept for name, figures in day.items() if name != OURS)
    return best - day[OURS].public_kept
