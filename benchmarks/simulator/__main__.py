"""Compare and print; see __init__.py."""

import argparse
import json
from dataclasses import asdict

from .day import lived
from .figures import Figures
from .others import always_cloud, always_device, availability_only
from .ours import ours
from .report import Compared, head, regret, table, totals, verdict
from .traces import TRACES

STRATEGIES = (always_device, always_cloud, availability_only, ours)


def main() -> None:
    """Print a table, how the goal fares, and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--traces", nargs="+", choices=TRACES, default=list(TRACES))
    options = parser.parse_args()
    found = {}
    print("\n".join(head()))
    for trace in options.traces:
        days = [compared(trace, seed) for seed in range(options.seeds)]
        print("\n".join(table(trace, days)), flush=True)
        found[trace] = summary(days)
    for trace, result in found.items():
        print(f"{trace}: {result['goal']}; budgets behind the best, by seed: {result['behind']}")
    print(json.dumps({"seeds": options.seeds, "traces": found}))


def compared(trace: str, seed: int) -> Compared:
    """One day, lived with each strategy."""
    made = TRACES[trace](seed)
    return {
        strategy.__name__: Figures.of(*lived(made.world, made.requests, strategy))
        for strategy in STRATEGIES
    }


def summary(days: list[Compared]) -> dict[str, object]:
    """For JSON."""
    total = totals(days)
    return {
        "goal": verdict(total),
        "seeds_that_attain": sum(verdict(day)["attains"] for day in days),
        "behind": [regret(day) for day in days],
        "strategies": {name: asdict(figures) for name, figures in total.items()},
    }


if __name__ == "__main__":
    main()
