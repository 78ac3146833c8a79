"""Decisions, devices and profiles as tables for people."""

from dataclasses import replace

from rich.markup import escape
from rich.table import Table

from edgewise import Decision, PredictedTime, Score, Source
from edgewise.cli.config import default_file
from edgewise.cli.doctor import Finding, Report
from edgewise.cli.wording import in_words_of_options
from edgewise_edge import Tokenizer
from edgewise_edge.profiling import Profile

UNKNOWN = "unknown"


def decision_table(decision: Decision) -> Table:
    """Both sources with their vetoes and predicted times."""
    table = Table(title=f"{decision.source} ({decision.reason})", title_justify="left")
    for heading in ("source", "veto", "first token", "whole answer"):
        table.add_column(heading, overflow="fold")
    for source in Source:
        veto = decision.vetoes.get(source)
        times = decision.predicted.get(source, PredictedTime())
        table.add_row(
            f"[bold]{source}[/]" if source is decision.source else source,
            escape(f"{veto.code}: {in_words_of_options(veto.detail)}") if veto else "-",
            seconds(times.first_token),
            seconds(times.total),
        )
    return table


def score_table(score: Score, tokenizer: Tokenizer) -> Table:
    """Each token with its log-probability, and the likeliest in its place."""

    def shown(id_: int) -> str:
        return escape(repr(tokenizer.decode([id_])))

    table = Table(title_justify="left")
    for heading in ("token", "log-probability", "likeliest"):
        table.add_column(heading, overflow="fold")
    for token in score.tokens:
        table.add_row(
            shown(token.token_id),
            "-" if token.logprob is None else f"{token.logprob:.3f}",
            ", ".join(f"{shown(id_)} {logprob:.3f}" for id_, logprob in token.top) or "-",
        )
    return table


def seconds(time: float | None) -> str:
    """A duration for people."""
    if time is None:
        return UNKNOWN
    return f"{time * 1000:.0f} ms" if time < 1 else f"{time:.1f} s"


def doctor_table(report: Report) -> Table:
    """The config file, the device's state, its model, and the cloud."""
    state = report.device
    rows = {
        "config file": str(report.config or _no_config()),
        **_model_rows(report),
        "memory available": _megabytes(state.available_memory),
        "memory pressure": _percent(state.memory_pressure),
        "battery": _battery(state.battery, state.charging),
        "temperature": UNKNOWN if state.temperature is None else f"{state.temperature:.0f} °C",
        "low-power mode": {None: UNKNOWN, True: "on", False: "off"}[state.low_power_mode],
        "cloud": _finding(report.cloud)
        if report.cloud
        else "none: no address set (--cloud HOST:PORT), or --offline",
    }
    return _two_columns(rows)


def _no_config() -> str:
    file = default_file()
    return f"none (it would be {file})" if file else "none (this user has no home folder)"


def profile_table(profile: Profile) -> Table:
    """The speed and memory of a model on this device."""
    rows = {
        "cold start": f"{seconds(profile.cold_start)} from process start to the first token",
        "resident memory": f"{_megabytes(profile.resident_memory)}, for the whole process",
        "memory bandwidth": f"{profile.bandwidth / 1e9:.1f} GB/s: at most {profile.wall:,.0f} tokens/s, as "
        f"each token reads {_megabytes(profile.token_bytes)} of the model",
    }
    for run in (profile.short, profile.long):
        rows[f"prompt of {run.prompt_tokens}"] = (
            f"prefill in {seconds(run.first_token)} ({run.prompt_tokens / run.first_token:,.0f} "
            f"tokens/s), then {1 / run.gap:,.0f} tokens/s, {1 / run.gap / profile.wall:.0%} of "
            "what the bandwidth allows"
        )
    return _two_columns(rows, title=f"{profile.model}, {profile.threads} threads")


def _two_columns(rows: dict[str, str], title: str | None = None) -> Table:
    """In a narrow terminal text goes on in the next line: Rich would cut it."""
    table = Table(title=title and escape(title), title_justify="left", show_header=False)
    for _ in range(2):
        table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(name, escape(value))
    return table


def _model_rows(report: Report) -> dict[str, str]:
    found, manifest = report.model, report.manifest
    if manifest is None:
        return {"model": _finding(found)}
    shape = manifest.architecture
    named = replace(found, name=f"{found.name}@{manifest.revision}")
    return {
        "model": _finding(named),
        "size": f"{shape.layers} layers of {shape.width}, vocabulary of "
        f"{shape.vocabulary_size:,} tokens, context window of {shape.context_window}",
        "memory needed": _megabytes(manifest.memory),
    }


def _finding(found: Finding) -> str:
    return f"{found.name}, {'' if found.usable else 'not usable: '}{found.detail}"


def _battery(charge: float | None, charging: bool | None) -> str:
    if charge is None:
        return "none found, so no constraint"
    words = {None: "charger unknown", True: "charging", False: "not charging"}
    return f"{charge:.0%}, {words[charging]}"


def _megabytes(size: int | None) -> str:
    return UNKNOWN if size is None else f"{size / 1e6:,.0f} MB"


def _percent(share: float | None) -> str:
    return UNKNOWN if share is None else f"stalled {share:.1%} of the time"
