"""Decisions, devices and profiles as tables for people."""

from rich.markup import escape
from rich.table import Table

from edgewise.errors import SourceFailedError
from edgewise.policy.types import Decision, PredictedTime, Source
from edgewise.router import Router
from edgewise_edge import ModelError
from edgewise_edge.profiling import Profile

UNKNOWN = "unknown"


def decision_table(decision: Decision) -> Table:
    """Both sources with their vetoes and predicted times."""
    table = Table(title=f"{decision.source} ({decision.reason})", title_justify="left")
    for heading in ("source", "veto", "first token", "whole answer"):
        table.add_column(heading)
    for source in Source:
        veto = decision.vetoes.get(source)
        times = decision.predicted.get(source, PredictedTime())
        table.add_row(
            f"[bold]{source}[/]" if source is decision.source else source,
            escape(f"{veto.code}: {veto.detail}") if veto else "-",
            seconds(times.first_token),
            seconds(times.total),
        )
    return table


def seconds(time: float | None) -> str:
    """A duration for people."""
    if time is None:
        return UNKNOWN
    return f"{time * 1000:.0f} ms" if time < 1 else f"{time:.1f} s"


def doctor_table(router: Router) -> Table:
    """The device's state, its model, and the cloud."""
    state, model = router.device_state(), router.model
    shape = model.architecture
    rows = {
        "model": f"{model.name}@{model.revision}, {_model(router)}",
        "size": f"{shape.layers} layers of {shape.width}, vocabulary of {shape.vocabulary_size:,} tokens, "
        f"context window of {shape.context_window}",
        "memory needed": _megabytes(model.memory),
        "memory available": _megabytes(state.available_memory),
        "memory pressure": _percent(state.memory_pressure),
        "battery": _battery(state.battery, state.charging),
        "temperature": UNKNOWN if state.temperature is None else f"{state.temperature:.0f} °C",
        "low-power mode": {None: UNKNOWN, True: "on", False: "off"}[state.low_power_mode],
        "cloud": _cloud(router),
    }
    table = Table(show_header=False)
    for name, value in rows.items():
        table.add_row(name, escape(value))
    return table


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
    table = Table(
        title=f"{profile.model}, {profile.threads} threads", title_justify="left", show_header=False
    )
    for name, value in rows.items():
        table.add_row(name, escape(value))
    return table


def _model(router: Router) -> str:
    try:
        router.verify_model()
    except ModelError as error:
        return f"not usable: {error}"
    return str(router.availability())


def _cloud(router: Router) -> str:
    try:
        description = router.describe_cloud()
    except SourceFailedError as error:
        return f"not usable: {error}"
    return f"serves {description}" if description else "no address set (--cloud HOST:PORT)"


def _battery(charge: float | None, charging: bool | None) -> str:
    if charge is None:
        return "none found, so no constraint"
    return f"{charge:.0%}, {'charging' if charging else 'not charging'}"


def _megabytes(size: int | None) -> str:
    return UNKNOWN if size is None else f"{size / 1e6:,.0f} MB"


def _percent(share: float | None) -> str:
    return UNKNOWN if share is None else f"stalled {share:.1%} of the time"
