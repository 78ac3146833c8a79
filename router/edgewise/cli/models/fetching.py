"""Opening the channel of a model, and remembering it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from edgewise import ConfigurationError
from edgewise.cli.config import Config
from edgewise.cli.models.report import Report
from edgewise.cli.options.channel import ChannelOptions, Given
from edgewise.delivery.catalog import open_catalog
from edgewise.delivery.remembered import ModelChannel, recall, remember
from edgewise.delivery.update import Updater
from edgewise_edge.installed.store import ModelStore
from edgewise_edge.store.catalog import bundled_models


def with_channel(store: ModelStore, config: Config, options: ChannelOptions) -> list[str]:
    """The names of the models here whose channel is known. Raises ConfigurationError for none."""
    here = sorted({*store.names(), *bundled_models()})
    names = [name for name in here if _find(store, name, config, options)]
    if not names:
        raise ConfigurationError(
            "no model here has a channel; run 'edgewise models pull NAME --channel ADDRESS --root "
            "ROOT.json' once, or set channel in the config file"
        )
    return names


@contextmanager
def updater(
    name: str,
    store: ModelStore,
    config: Config,
    options: ChannelOptions,
    report: Report,
    *,
    keep: bool,
    force: bool,
) -> Iterator[Updater]:
    """An Updater of the model `name`, with `force`. `keep`: its channel is remembered from now on.

    If none was remembered so far, it is anyway. Raises ConfigurationError and ChannelError.
    """
    given = _find(store, name, config, options)
    if given is None:
        raise ConfigurationError(
            f"the channel of {name} is not known; give --channel ADDRESS once (and --root ROOT.json, "
            "unless it is a plain model folder), or set channel in the config file"
        )
    settings = options.settings(given)
    catalog = open_catalog(given.address, store=store, root=given.root, settings=settings)
    with Updater(
        name, catalog, store, settings=settings, on_event=report.event, force=force
    ) as made:
        yield made
    if keep or recall(store, name) is None:
        channel = ModelChannel(
            address=given.address,
            token_file=given.token_file,
            root_certificates=given.root_certificates,
        )
        remember(store, name, channel)


def _find(store: ModelStore, name: str, config: Config, options: ChannelOptions) -> Given | None:
    """That of the options, else the one that was used before, else that of the config file."""
    if given := options.named():
        return given
    if not (kept := recall(store, name)):
        return options.configured(config.values)
    given = Given(kept.address, options.root, kept.token_file, kept.root_certificates)
    if options.token_file:
        given = replace(given, token_file=str(options.token_file.absolute()))
    if options.ca:
        given = replace(given, root_certificates=str(options.ca.absolute()))
    return given
