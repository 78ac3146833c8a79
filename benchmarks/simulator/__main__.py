"""Compare the policies and print; see __init__.py."""

import json

from benchmarks.measure import arguments, markdown

from .metrics import HEAD, Day, measure, regret, table, totals, verdict
from .policies import POLICIES
from .simulation import simulate
from .traces import TRACES, make_trace


def main() -> None:
    parser = arguments(__doc__, seeds=10)
    parser.add_argument("--traces", nargs="+", choices=TRACES, default=list(TRACES))
    options = parser.parse_args()
    found = {
        trace: [one_day(trace, seed) for seed in range(options.seeds)] for trace in options.traces
    }
    print(markdown(HEAD, [row for trace, days in found.items() for row in table(trace, days)]))
    results = {trace: summary(days) for trace, days in found.items()}
    for trace, result in results.items():
        print(f"{trace}: {result['goal']}; budgets behind the best, by seed: {result['behind']}")
    print(json.dumps({"seeds": options.seeds, "traces": results}))


def one_day(trace: str, seed: int) -> Day:
    made = make_trace(trace, seed)
    return {
        name: measure(*simulate(made.world, made.requests, policy))
        for name, policy in POLICIES.items()
    }


def summary(days: list[Day]) -> dict[str, object]:
    total = totals(days)
    return {
        "goal": verdict(total),
        "seeds_that_attain": sum(verdict(day)["attains"] for day in days),
        "behind": [regret(day) for day in days],
        "policies": total,
    }


if __name__ == "__main__":
    main()
