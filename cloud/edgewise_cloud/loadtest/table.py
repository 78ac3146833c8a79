"""Tables of a load test's figures for the terminal."""

from rich.markup import escape
from rich.table import Table

from edgewise_cloud.loadtest.generator import LoadGenerator, LoadTestResult
from edgewise_cloud.loadtest.statistics import Percentiles, Summary

RECENT = 5.0  # seconds that the live table covers


def live_table(generator: LoadGenerator, elapsed: float) -> Table:
    """The last few seconds of a run that started `elapsed` seconds ago."""
    plan = generator.plan
    of = f" of {plan.duration:g}" if plan.requests is None else ""
    ended = f"{len(generator.ended)}" + (f" of {plan.requests}" if plan.requests else "")
    title = (
        f"{elapsed:.0f}{of} s, {ended} requests ended, {len(generator.running)} running; "
        f"the last {RECENT:g} s:"
    )
    return _table(title, generator.recent(RECENT), generator.not_sent)


def final_table(result: LoadTestResult) -> Table:
    """The whole run."""
    plan, summary = result.plan, result.summary()
    load = f"{plan.streams} streams" if plan.rate is None else f"{plan.rate:g} requests/s"
    title = f"{load} for {summary.seconds:.1f} s, {result.model} at {plan.target}"
    return _table(title, summary, result.not_sent)


def _table(title: str, summary: Summary, not_sent: int) -> Table:
    table = Table(title=escape(title), caption=_counts(summary, not_sent), title_justify="left")
    table.caption_justify = "left"
    table.add_column("milliseconds")
    for name in ("p50", "p90", "p99", "max"):
        table.add_column(name, justify="right")
    rows = {
        "time to first token": summary.time_to_first_token,
        "gap between tokens": summary.gap,
        "queued": summary.queued,
        "total": summary.total,
        "time to refusal": summary.time_to_refusal,
    }
    for name, times in rows.items():
        if times.p50 is not None:
            table.add_row(name, *_milliseconds(times))
    return table


def _milliseconds(times: Percentiles) -> list[str]:
    values = (times.p50, times.p90, times.p99, times.max)
    return [f"{value * 1000:,.1f}" for value in values if value is not None]


def _counts(summary: Summary, not_sent: int) -> str:
    counts = {
        "completed": summary.completed,
        "cancelled": summary.cancelled,
        "unfinished": summary.unfinished,
        "wrong": summary.wrong,
        "not sent": not_sent,
        **summary.errors,
    }
    return (
        f"{summary.tokens_per_second:,.1f} tokens/s, {summary.requests_per_second:,.2f} requests/s; "
        + ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    )
