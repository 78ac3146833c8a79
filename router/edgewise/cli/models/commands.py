"""The commands of `edgewise models`. What they do is in actions.py, imported when one runs."""

from collections.abc import Callable
from types import ModuleType

import typer

from edgewise.cli.config import ConfiguredCommand
from edgewise.cli.exit_codes import ExitCode
from edgewise.cli.options.channel import (
    ChannelOptions,
    CheckOnly,
    DryRun,
    Force,
    Name,
    OneOrAll,
    Revision,
    RevisionInUse,
    Yes,
)
from edgewise.cli.options.groups import Group, with_option_groups
from edgewise.cli.options.request import Json

models = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    help="Fetch, update and remove models.",
    epilog=ExitCode.explain(),
    context_settings={"help_option_names": ["-h", "--help"]},
)


def command(name: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A decorator: a command with option groups, of that name."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        models.command(name, cls=ConfiguredCommand, epilog=ExitCode.explain())(
            with_option_groups(function)
        )
        return function

    return register


@command("list")
def list_(json_: Json = False) -> None:
    """List the models on this device. Bundled ones, too."""
    _actions().list_(json_=json_)


@command("show")
def show(name: Name, json_: Json = False) -> None:
    """Show all that is known of a model. Its revisions: in use, staged, before it, pinned, failed."""
    _actions().show(name, json_=json_)


@command("pull")
def pull(
    context: typer.Context,
    channel: ChannelOptions,
    name: Name,
    force: Force = False,
    json_: Json = False,
) -> None:
    """Fetch a model and remember its channel.

    It is tried on this device first. A model that was not here can be used at once, another from the
    next load on.
    """
    _actions().pull(context.obj, channel, name, force=force, json_=json_)


@command("update")
def update(
    context: typer.Context,
    channel: ChannelOptions,
    name: OneOrAll = None,
    check: CheckOnly = False,
    dry_run: DryRun = False,
    force: Force = False,
    json_: Json = False,
) -> None:
    """Fetch the newest usable revision. It is tried on this device; the next load uses it."""
    _actions().update(
        context.obj, channel, name, check=check, dry_run=dry_run, force=force, json_=json_
    )


@command("rollback")
def rollback(name: Name, json_: Json = False) -> None:
    """Go back to the revision before. To the bundled one, where there is none; from the next load on."""
    _actions().rollback(name, json_=json_)


@command("pin")
def pin(name: Name, revision: RevisionInUse = None, json_: Json = False) -> None:
    """Keep one revision. Nothing is updated until it is unpinned."""
    _actions().pin(name, revision, json_=json_)


@command("unpin")
def unpin(name: Name, json_: Json = False) -> None:
    """Let updates replace a pinned revision."""
    _actions().unpin(name, json_=json_)


@command("remove")
def remove(name: Name, revision: Revision = None, yes: Yes = False, json_: Json = False) -> None:
    """Remove a revision, or all of a model. One that is in use, and bundled models, stay."""
    _actions().remove(name, revision, yes=yes, json_=json_)


@command("verify")
def verify(name: Name, revision: Revision = None, json_: Json = False) -> None:
    """Compare files with their manifest."""
    _actions().verify(name, revision, json_=json_)


@command("gc")
def gc(json_: Json = False) -> None:
    """Remove files that nothing uses. What was fetched within the hour stays."""
    _actions().gc(json_=json_)


def _actions() -> ModuleType:
    """Late: `edgewise generate` is not to wait for it."""
    from edgewise.cli.models import actions

    return actions
