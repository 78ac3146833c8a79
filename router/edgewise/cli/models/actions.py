"""What the commands of `edgewise models` do; imported when one of them runs."""

import sys
from collections.abc import Callable, Sequence
from typing import Any

import typer

from edgewise import ConfigurationError, EdgewiseError, StoreError, UpdateCheck, UpdateResult
from edgewise.cli.config import Config
from edgewise.cli.exit_codes import ExitCode
from edgewise.cli.models.fetching import updater, with_channel
from edgewise.cli.models.inventory import all_models, describe, model_table, models_table
from edgewise.cli.models.report import Report, size
from edgewise.cli.models.wording import Said, checked, failed, updated
from edgewise.cli.options.channel import ChannelOptions
from edgewise.cli.output import note, notes, waiting, write, write_json, write_table
from edgewise.delivery.update.this_device import in_use
from edgewise_edge.errors import ModelCorruptError, ModelNotFoundError
from edgewise_edge.installed.contents import device_files
from edgewise_edge.installed.store import ModelStore
from edgewise_edge.store.catalog import BUNDLED, bundled_models
from edgewise_edge.store.manifest import Manifest


def list_(*, json_: bool) -> None:
    """As the command."""
    found = all_models(ModelStore())
    if json_:
        write_json({"models": found})
    else:
        write_table(models_table(found))
        _next("edgewise models show NAME")


def show(name: str, *, json_: bool) -> None:
    """As the command."""
    found = describe(ModelStore(), name)
    if json_:
        write_json(found)
    else:
        write_table(model_table(found))
        _next(
            f"edgewise models update {name}" if found["channel"] else f"edgewise generate -m {name}"
        )


def pull(config: Config, channel: ChannelOptions, name: str, *, force: bool, json_: bool) -> None:
    """As the command."""
    store = ModelStore()
    result = _update(store, config, channel, name, keep=True, force=force)
    if result.staged and in_use(store, name) is None:
        store.take_staged(name)  # nothing is in use that would have to end first
    _finish([updated(name, result)], json_=json_)


def update(
    config: Config,
    channel: ChannelOptions,
    name: str | None,
    *,
    check: bool,
    dry_run: bool,
    force: bool,
    json_: bool,
) -> None:
    """As the command."""
    store = ModelStore()

    def one(name: str) -> Said:
        if check:
            return checked(_check(store, config, channel, name, force=force))
        result = _update(store, config, channel, name, dry_run=dry_run, force=force)
        return updated(name, result)

    names = [name] if name else with_channel(store, config, channel)
    _finish([one(each) if name else _tolerant(one, each) for each in names], json_=json_)


def rollback(name: str, *, json_: bool) -> None:
    """As the command."""
    store = ModelStore()
    describe(store, name)  # an error if it is not here
    left = store.state(name).active
    store.rollback(name)
    _done(store, name, f"{name} is rolled back from {left} to {{}}", json_=json_, left=left)


def pin(name: str, revision: str | None, *, json_: bool) -> None:
    """As the command."""
    store = ModelStore()
    used = in_use(store, name)
    if revision is None and used is None:
        describe(store, name)  # which says that it is not here
        raise ModelNotFoundError(f"no revision of {name} is in use; name one to pin")
    store.pin(name, revision or (used.revision if used else None))
    _done(store, name, f"{name} is pinned to {{}}", json_=json_, then="unpin")


def unpin(name: str, *, json_: bool) -> None:
    """As the command."""
    store = ModelStore()
    describe(store, name)
    store.pin(name, None)
    _done(store, name, f"{name} is not pinned; {{}} is in use", json_=json_, then="update")


def remove(name: str, revision: str | None, *, yes: bool, json_: bool) -> None:
    """As the command."""
    store = ModelStore()
    what = f"{name} {revision}" if revision else f"all revisions of {name}"
    if not yes:
        _ask(f"Remove {what}?")
    freed = store.remove(name, revision)
    _freed(f"removed {what}", freed, json_=json_, model=name, revision=revision)


def verify(name: str, revision: str | None, *, json_: bool) -> None:
    """As the command."""
    store = ModelStore()
    describe(store, name)
    with waiting(f"reading {name}"):
        wanted = [revision] if revision else list(store.layout.revisions(name))
        found = [_verified(store, name, each) for each in wanted]
        if name in bundled_models() and revision is None:
            found.append(_verified_bundled(name))
    if json_:
        write_json({"model": name, "revisions": found})
    for file in () if json_ else found:
        write(f"{name} {file['revision']}: {file['detail'] or 'whole'}")
    if not all(file["whole"] for file in found):
        if not json_:
            _next(f"edgewise models pull {name}")
        sys.exit(ExitCode.INVALID)


def gc(*, json_: bool) -> None:
    """As the command."""
    with waiting("looking for what is not used"):
        freed = ModelStore().gc()
    _freed("collected what is not used", freed, json_=json_)


def _update(
    store: ModelStore,
    config: Config,
    channel: ChannelOptions,
    name: str,
    *,
    keep: bool = False,
    dry_run: bool = False,
    force: bool,
) -> UpdateResult:
    with (
        Report(name) as report,
        updater(name, store, config, channel, report, keep=keep, force=force) as running,
    ):
        report.asking()
        return running.update(report.progress, dry_run=dry_run)


def _check(
    store: ModelStore, config: Config, channel: ChannelOptions, name: str, *, force: bool
) -> UpdateCheck:
    with (
        Report(name) as report,
        updater(name, store, config, channel, report, keep=False, force=force) as running,
    ):
        report.asking()
        return running.check()


def _tolerant(one: Callable[[str], Said], name: str) -> Said:
    """A channel that cannot be reached keeps no other model from its update."""
    try:
        return one(name)
    except EdgewiseError as error:
        return failed(name, error)


def _finish(said: Sequence[Said], *, json_: bool) -> None:
    """Say what came of each, the next command, and exit with the first status that is not 0."""
    if json_:
        found = [each.as_dict for each in said]
        write_json(found[0] if len(found) == 1 else {"models": found})
    else:
        for each in said:
            write(each.words)
        _next(said[-1].then)
    sys.exit(next((each.code for each in said if each.code), ExitCode.OK))


def _done(
    store: ModelStore, name: str, words: str, *, json_: bool, then: str = "show", **more: Any
) -> None:
    """`words` has a place for the revision that is in use now."""
    used = in_use(store, name)
    revision = used.revision if used else None
    if json_:
        write_json({"model": name, "revision": revision, **more})
    else:
        write(words.format(revision or "nothing"))
        _next(f"edgewise models {then} {name}")


def _freed(words: str, freed: int, *, json_: bool, **more: Any) -> None:
    if json_:
        write_json({**more, "freed": freed})
    else:
        write(f"{words}: {size(freed)} are free now")
        _next("edgewise models list")


def _verified(store: ModelStore, name: str, revision: str) -> dict[str, Any]:
    detail = ""
    try:
        store.verify(name, revision)
    except ModelCorruptError as error:
        detail = str(error)
    return {"revision": revision, "whole": not detail, "detail": detail}


def _verified_bundled(name: str) -> dict[str, Any]:
    detail, revision = "", "bundled"
    try:
        manifest = Manifest.read(BUNDLED / name)
        revision = f"{manifest.revision} (bundled)"
        manifest.verify(BUNDLED / name, device_files(manifest))
    except ModelCorruptError as error:
        detail = str(error)
    return {"revision": revision, "whole": not detail, "detail": detail}


def _ask(question: str) -> None:
    """Raises ConfigurationError where nobody can answer, and StoreError for no."""
    if not (notes.is_terminal and sys.stdin is not None and sys.stdin.isatty()):
        raise ConfigurationError("nobody can be asked here; add --yes")
    if not typer.confirm(question, err=True):
        raise StoreError("nothing was removed")


def _next(then: str) -> None:
    note(f"next: {then}", style="dim")
