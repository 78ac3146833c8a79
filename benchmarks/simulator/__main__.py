"""Compare the policies and print; see __init__.py."""

import json

from benchmarks.measure import arguments, markdown

from . import HEAD, POLICIES, TRACES, make_trace, measure, simulate, table, totals, verdict
from .metrics import Day


def main() -> None:
    parser = arguments(__doc__, seeds=10)
    parser.add_argument("--traces", nargs="+", choices=TRACES, default=list(TRACES))
    options = parser.parse_args()
    found = {
        trace: [one_day(trace, seed) for seed in range(options.seeds)] for trace in options.traces
    }
    print(markdown(HEAD, [row for trace, days in found.items() for row in table(trace, days)]))
    sums = {trace: totals(days) for trace, days in found.items()}
    for trace, total in sums.items():
        print(f"{trace}: {verdict(total)}")
    print(json.dumps({"seeds": options.seeds, "traces": sums}))


def one_day(trace: str, seed: int) -> Day:
    made = make_trace(trace, seed)
    return {
        name: measure(*simulate(made.world, made.requests, policy))
        for name, policy in POLICIES.items()
    }


if __name__ == "__main__":
    main()
