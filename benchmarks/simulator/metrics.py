"""What a day came to under each policy, and whether edgewise did best."""

from collections import Counter
from collections.abc import Mapping, Sequence

from edgewise import Source

from .simulation import Outcome, Simulation

Metrics = Counter[str]  # those of measure(), over a day or over several
Day = Mapping[str, Metrics]  # by policy


def measure(simulation: Simulation, outcomes: Sequence[Outcome]) -> Metrics:
    budgeted = [outcome for outcome in outcomes if outcome.request.budgeted]
    public = [outcome for outcome in budgeted if not outcome.request.private]
    return Counter(
        requests=len(outcomes),
        budgeted=len(budgeted),
        met=sum(outcome.met for outcome in budgeted),  # also by private requests that leaked
        public=len(public),  # budgeted requests that may go to the cloud
        public_met=sum(outcome.met for outcome in public),
        lost=sum(outcome.total is None for outcome in outcomes),  # without a complete answer
        # Computed there, whether or not they reached the reader.
        cloud_tokens=sum(outcome.computed[Source.IN_CLOUD] for outcome in outcomes),
        low_battery_tokens=sum(outcome.low_battery_tokens for outcome in outcomes),
        joules=simulation.device.compute_joules + simulation.device.radio.joules,
        fallbacks=sum(outcome.fallbacks for outcome in outcomes),
        handoffs=sum(outcome.handoffs for outcome in outcomes),
        leaks=sum(outcome.leaked for outcome in outcomes),  # private requests sent to the cloud
    )


def totals(days: Sequence[Day]) -> dict[str, Metrics]:
    found = {name: Metrics() for name in days[0]}
    for day in days:
        for name, metrics in day.items():
            found[name].update(metrics)
    return found


def verdict(day: Day) -> dict[str, bool]:
    """Whether edgewise meets as many budgets as any other policy, with the fewest cloud tokens.

    Judged by public requests: a private prompt answered in the cloud is a leak, not a budget met.
    """
    ours = day["edgewise"]
    as_good = [other for other in day.values() if other["public_met"] >= ours["public_met"]]
    return {
        "attains": all(other["public_met"] <= ours["public_met"] for other in day.values()),
        "fewest_tokens": all(ours["cloud_tokens"] <= other["cloud_tokens"] for other in as_good),
        "private": ours["leaks"] == 0,
    }


_COUNTS = ("lost", "cloud_tokens", "low_battery_tokens", "fallbacks", "handoffs", "leaks")
HEAD = ("trace", "policy", "budgets met", "of those not private", *_COUNTS, "energy, kJ")


def table(trace: str, days: Sequence[Day]) -> list[list[object]]:
    """A row for each policy, over all seeds; all but the shares are sums."""
    rows: list[list[object]] = []
    for name, total in totals(days).items():
        shares = [total["met"] / total["budgeted"], total["public_met"] / total["public"]]
        row = [
            trace,
            name,
            *(f"{share:.1%}" for share in shares),
            *map(total.get, _COUNTS),
        ]
        rows.append([*row, f"{total['joules'] / 1e3:.1f}"])
    return rows
