"""What there is on this device, for people and for programs."""

from contextlib import suppress
from typing import Any

from rich.markup import escape
from rich.table import Table

from edgewise import ModelNotFoundError
from edgewise.cli.models.report import size
from edgewise.delivery.remembered import recall
from edgewise.delivery.update.this_device import in_use
from edgewise_edge.errors import ModelError
from edgewise_edge.installed.contents import size as size_of
from edgewise_edge.installed.store import ModelStore
from edgewise_edge.store.catalog import BUNDLED, bundled_models
from edgewise_edge.store.manifest import MODEL_FILE, Manifest


def all_models(store: ModelStore) -> list[dict[str, Any]]:
    """Each bundled or installed model, by name."""
    return [describe(store, name) for name in sorted({*store.names(), *bundled_models()})]


def describe(store: ModelStore, name: str) -> dict[str, Any]:
    """One of them. Raises ModelNotFoundError."""
    state, revisions, used = store.state(name), store.revisions(name), in_use(store, name)
    bundled = _bundled(name)
    if not (revisions or bundled):
        here = ", ".join(sorted({*store.names(), *bundled_models()}))
        raise ModelNotFoundError(
            f"{name} is not on this device; here are {here}. Fetch it with 'edgewise models pull "
            f"{name} --channel ADDRESS --root ROOT.json'"
        )
    failed = {
        each.revision: state.failed[each.manifest.files[MODEL_FILE].sha256]
        for each in revisions
        if each.manifest.files[MODEL_FILE].sha256 in state.failed
    }
    channel = recall(store, name)
    return {
        "name": name,
        "revision": used.revision if used else None,
        "active": state.active,
        "previous": state.previous,
        "staged": state.staged,
        "pinned": state.pinned,
        "probation": state.probation.generations_left if state.probation else None,
        "bundled": bundled.revision if bundled else None,
        "failed": failed,
        "revisions": [{"revision": each.revision, "size": each.size} for each in revisions],
        "size": size_of(used) if used else None,
        "vocabulary": used.vocabulary if used else None,
        "channel": channel.address if channel else None,
    }


def models_table(models: list[dict[str, Any]]) -> Table:
    """One line for each."""
    table = Table()
    for heading in ("model", "in use", "size", "also", "channel"):
        table.add_column(heading, overflow="fold")
    for model in models:
        table.add_row(
            escape(model["name"]),
            escape(_used(model)),
            size(model["size"]) if model["size"] is not None else "-",
            escape(", ".join(_remarks(model)) or "-"),
            escape(model["channel"] or "-"),
        )
    return table


def model_table(model: dict[str, Any]) -> Table:
    """All that is known of one."""
    rows = {
        "in use": _used(model),
        "staged for the next load": model["staged"] or "-",
        "before it": model["previous"] or "-",
        "pinned to": model["pinned"] or "-",
        "on probation for": f"{model['probation']} generations" if model["probation"] else "-",
        "installed": ", ".join(
            f"{each['revision']} ({size(each['size'])})" for each in model["revisions"]
        )
        or "-",
        "bundled": model["bundled"] or "-",
        "vocabulary": (model["vocabulary"] or "-")[:16],
        "channel": model["channel"] or "-",
        **{f"{revision} failed": reason for revision, reason in model["failed"].items()},
    }
    table = Table(title=escape(model["name"]), title_justify="left", show_header=False)
    for _ in range(2):
        table.add_column(overflow="fold")
    for heading, value in rows.items():
        table.add_row(escape(heading), escape(value))
    return table


def _bundled(name: str) -> Manifest | None:
    with suppress(ModelError):
        return Manifest.read(BUNDLED / name) if name in bundled_models() else None
    return None


def _used(model: dict[str, Any]) -> str:
    if model["revision"] is None:
        return "-"
    return f"{model['revision']}{' (bundled)' if model['active'] is None else ''}"


def _remarks(model: dict[str, Any]) -> list[str]:
    return [f"{word} {model[word]}" for word in ("staged", "pinned", "previous") if model[word]] + [
        f"{revision} failed" for revision in model["failed"]
    ]
