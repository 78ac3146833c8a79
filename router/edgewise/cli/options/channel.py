"""The options of `edgewise models`: which model, and how its channel is reached."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from edgewise import ConfigurationError
from edgewise.cli.options.groups import CHANNEL
from edgewise.cli.options.values import file_path, not_empty, parse_size
from edgewise.delivery.settings import DownloadSettings
from edgewise_edge.store.active import is_name, is_revision


def _name(text: str) -> str:
    if not is_name(text):
        raise typer.BadParameter(
            f"'{text}' is no name of a model: 1 to 64 letters, digits, '.', '_' and '-'"
        )
    return text


def _revision(text: str) -> str:
    if not is_revision(text):
        raise typer.BadParameter(
            f"'{text}' is no revision: 1 to 64 letters, digits, '.', '_' and '-'"
        )
    return text


Name = Annotated[str, typer.Argument(metavar="NAME", parser=_name, help="The model.")]
OneOrAll = Annotated[
    str | None,
    typer.Argument(
        metavar="[NAME]", parser=_name, help="The model.", show_default="all that have a channel"
    ),
]
Revision = Annotated[
    str | None,
    typer.Argument(
        metavar="[REVISION]", parser=_revision, help="One of its revisions.", show_default="all"
    ),
]
RevisionInUse = Annotated[
    str | None,
    typer.Argument(
        metavar="[REVISION]",
        parser=_revision,
        help="One of its revisions.",
        show_default="the one in use",
    ),
]
Yes = Annotated[
    bool, typer.Option("--yes", help="Do not ask.", show_default="ask, on a terminal only")
]
CheckOnly = Annotated[
    bool, typer.Option("--check", help="Only ask the channel.", show_default="off")
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Only say what would be fetched.", show_default="off"),
]

Force = Annotated[
    bool,
    typer.Option(
        "--force", help="Try revisions again that failed on this device before.", show_default="off"
    ),
]


@dataclass(frozen=True, slots=True)
class Given:
    """A channel as given: by options, by the config file, or earlier."""

    address: str
    root: Path | None
    token_file: str | None
    root_certificates: str | None


@dataclass(frozen=True, kw_only=True)
class ChannelOptions:
    """Where models come from."""

    channel: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            parser=not_empty,
            help="The channel: a folder, or an address that starts with file://, http(s)://, grpc:// or "
            "hf://.",
            show_default="the one that was used for the model first, or the config file's",
            rich_help_panel=CHANNEL,
        ),
    ] = None
    root: Annotated[
        Path | None,
        typer.Option(
            "--root",
            "--channel-root",
            metavar="ROOT.JSON",
            parser=file_path,
            help="The channel's first root.json, from its publisher; needed once.",
            show_default="the one that was used first",
            rich_help_panel=CHANNEL,
        ),
    ] = None
    token_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            parser=file_path,
            help="File with the token for the channel.",
            show_default="none",
            rich_help_panel=CHANNEL,
        ),
    ] = None
    ca: Annotated[
        Path | None,
        typer.Option(
            metavar="PEM",
            parser=file_path,
            help="Trust this certificate authority only.",
            show_default="well-known authorities",
            rich_help_panel=CHANNEL,
        ),
    ] = None
    bandwidth: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="Fetch at most this much in a second, such as 500KB.",
            show_default="no limit",
            rich_help_panel=CHANNEL,
        ),
    ] = None

    def settings(self, given: Given) -> DownloadSettings:
        """Raises ConfigurationError."""
        rate = parse_size("bandwidth", self.bandwidth) if self.bandwidth is not None else None
        return DownloadSettings(
            token_file=given.token_file,
            root_certificates=given.root_certificates,
            bandwidth=rate,
        )

    def named(self) -> Given | None:
        """The channel of the options; None if there is none."""
        if self.channel is None:
            return None
        return Given(
            absolute(self.channel),
            self.root,
            _absolute_path(self.token_file),
            _absolute_path(self.ca),
        )

    def configured(self, config: Mapping[str, Any]) -> Given | None:
        """The channel of the config file's values; None if there is none."""
        if not (address := config.get("channel")):
            return None
        root = config.get("channel_root")
        return Given(
            absolute(address),
            self.root or (Path(root) if root else None),
            _absolute_path(self.token_file),
            _absolute_path(self.ca),
        )


def absolute(address: str) -> str:
    """The same folder from wherever the next command is started."""
    if "://" in address:
        return address
    try:
        return str(Path(address).expanduser().absolute())
    except RuntimeError as error:
        raise ConfigurationError(f"channel is '{address}'; there is no such home folder") from error


def _absolute_path(path: Path | None) -> str | None:
    return None if path is None else absolute(str(path))
