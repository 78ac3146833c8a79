"""`edgewise-cloud publish`."""

from json import dumps
from pathlib import Path
from shlex import join
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgewise_cloud.channel.cli.shared import Json, Keys, key_ring
from edgewise_cloud.console import say, shown_progress, without_native_logs
from edgewise_cloud.corpus import read_documents
from edgewise_edge.store.catalog import find_model

if TYPE_CHECKING:  # a command line that only prints its help need not import them
    from edgewise_cloud.channel.publish import Delta, Publication


def publish(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL_FOLDER",
            help="A device model, as 'edgewise-cloud convert' makes it, or a bundled one's name.",
        ),
    ],
    channel: Annotated[
        Path, typer.Option("--channel", metavar="DIR", help="The channel's folder.")
    ],
    keys: Keys = None,
    name: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Publish it as the model NAME.", show_default="the manifest's"
        ),
    ] = None,
    revision: Annotated[
        str | None,
        typer.Option(
            metavar="REVISION",
            help="Publish it as REVISION, as when only its sampling settings have changed.",
            show_default="the manifest's",
        ),
    ] = None,
    delta_from: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=0,
            max=20,
            help="Make deltas from the newest N revisions, where they save at least a third.",
        ),
    ] = 2,
    text: Annotated[
        list[Path] | None,
        typer.Option(
            "--text",
            "-t",
            metavar="FILE",
            help="UTF-8 files that devices evaluate the model on: their first 512 tokens.",
            show_default="a built-in fairy tale",
        ),
    ] = None,
    rollout: Annotated[
        float,
        typer.Option(
            metavar="PERCENT", min=0, max=100, help="Share of the devices that may take it."
        ),
    ] = 100,
    requires: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VERSION",
            help="Least version on a device, of edgewise or litert; may be given several times.",
            show_default="none",
        ),
    ] = None,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Publish a model that is much worse than the newest revision, too.",
            show_default="off",
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Add a model to a channel as the newest revision of its name, and sign it.

    Example: edgewise-cloud publish my-model --channel models-channel --rollout 10
    """
    from edgewise_cloud.channel.publish import Options, publish

    options = Options(
        delta_from=delta_from, rollout=rollout, force=force, requires=_versions(requires or [])
    )
    documents = read_documents(text or []) or None
    with shown_progress() as progress, without_native_logs():
        done = publish(
            find_model(model),
            channel,
            key_ring(channel, keys),
            options,
            name=name,
            revision=revision,
            documents=documents,
            progress=progress,
        )
    print(dumps(_described(done), indent=2) if json else _summary(done))
    if done.new and rollout < 100 and not json:
        command = ["edgewise-cloud", "channel", "rollout", str(channel)]
        widen = [*command, done.revision.revision, "100"]
        say(f"when it does well: {join(widen)}")


def _versions(given: list[str]) -> dict[str, str]:
    versions = dict(each.partition("=")[::2] for each in given)
    if wrong := versions.keys() - {"edgewise", "litert"}:
        raise typer.BadParameter(
            f"{min(wrong)!r} is neither edgewise=VERSION nor litert=VERSION",
            param_hint="'--requires'",
        )
    return versions


def _described(done: "Publication") -> dict[str, Any]:
    revision, evaluation = done.revision, done.evaluation
    return {
        "name": done.name,
        "revision": revision.revision,
        "number": revision.number,
        "new": done.new,
        "size": revision.size,
        "rollout": revision.rollout,
        "evaluation": evaluation
        and {
            "tokens": evaluation.tokens,
            "measured": dict(evaluation.measured),
            "least_top1": evaluation.least_top1,
            "most_bits_per_byte": evaluation.most_bits_per_byte,
        },
        "deltas": [
            {
                "from": each.from_revision,
                "size": each.record.size,
                "share": round(each.share, 4),
                "kept": each.kept,
            }
            for each in done.deltas
        ],
    }


def _summary(done: "Publication") -> str:
    revision = done.revision
    if not done.new or done.evaluation is None:
        state = f", and revoked since: {revision.revoked}" if revision.revoked else ""
        return (
            f"{done.name} {revision.revision} is published already, as number "
            f"{revision.number}{state}; nothing was changed"
        )
    measured, evaluation = done.evaluation.measured, done.evaluation
    added = (
        f"{done.name} {revision.revision}: number {revision.number}, {revision.size / 1e6:.1f} MB, "
        f"for {revision.rollout:g} % of devices"
    )
    evaluated = (
        f"evaluation: {evaluation.tokens} tokens; measured here: top-1 {measured['top1']:.1%} of "
        f"{measured['reference']}'s, {measured['bits_per_byte']:.3f} bits per byte; devices refuse "
        f"it below {evaluation.least_top1:.1%} or above {evaluation.most_bits_per_byte:.3f}"
    )
    return "\n".join([added, evaluated, *map(_delta, done.deltas)])


def _delta(delta: "Delta") -> str:
    kept = "" if delta.kept else "; not kept: it would not save a third"
    size = delta.record.size / 1e6
    return f"delta from {delta.from_revision}: {size:.2f} MB, {delta.share:.1%} of the file{kept}"
