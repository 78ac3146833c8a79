"""The options of a router that concern how its model gets here and is updated."""

from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING

from edgewise.errors import ConfigurationError
from edgewise.options import require_type
from edgewise_edge.checks import shown
from edgewise_edge.store.active import is_name, store_root

if TYPE_CHECKING:
    from edgewise.delivery.catalog import Catalog
    from edgewise.delivery.conditions import UpdatePolicy
    from edgewise.delivery.settings import DownloadSettings
    from edgewise_edge.installed.store import ModelStore


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateOptions:
    """The options of a router that concern how its model is updated. Raises ConfigurationError."""

    channel: "str | PathLike[str] | Catalog | None" = None
    channel_root: bytes | str | PathLike[str] | None = None
    update: "UpdatePolicy | None" = None
    download_settings: "DownloadSettings | None" = None
    store: "ModelStore | str | PathLike[str] | None" = None

    def __post_init__(self) -> None:
        """Check, without a look at files or the network."""
        if self.channel is not None:
            is_address = isinstance(self.channel, str | PathLike) and bool(fspath(self.channel))
            if not (is_address or hasattr(self.channel, "refresh")):
                raise ConfigurationError(
                    f"channel is {shown(self.channel)}; it must be an address: a folder, or "
                    "https://, grpc:// or hf://"
                )
        if self.channel_root is not None:
            if not isinstance(self.channel_root, bytes | str | PathLike):
                raise ConfigurationError(
                    f"channel_root is {shown(self.channel_root)}; it must be the path of a root.json"
                )
            if self.channel is None:
                raise ConfigurationError("channel_root is set without channel; set both")
        if self.update is not None:
            from edgewise.delivery.conditions import UpdatePolicy

            require_type("update", self.update, UpdatePolicy, "an UpdatePolicy")
        if self.download_settings is not None:
            from edgewise.delivery.settings import DownloadSettings

            kind = "a DownloadSettings"
            require_type("download_settings", self.download_settings, DownloadSettings, kind)
        if not (
            self.store is None
            or isinstance(self.store, str | PathLike)
            or hasattr(self.store, "root")
        ):
            raise ConfigurationError(
                f"store is {shown(self.store)}; it must be a folder, or a ModelStore"
            )

    @property
    def root(self) -> Path:
        """The folder of the store."""
        if isinstance(self.store, str | PathLike):
            return Path(self.store).expanduser().absolute()
        return self.store.root if self.store else store_root()

    @property
    def address(self) -> str:
        """Of the channel, for people and for the delivery; "" without one."""
        if isinstance(self.channel, str | PathLike):
            return fspath(self.channel)
        return "" if self.channel is None else "the channel"

    def check_model(self, model: object) -> None:
        """Raise ConfigurationError for a model that cannot be updated, if it is to be."""
        given = {"channel": self.channel, "update": self.update}
        for name, value in given.items():
            if value is not None and not (isinstance(model, str) and is_name(model)):
                raise ConfigurationError(
                    f"{name} is set, but model is {shown(model)}; only a model that is given by its "
                    "name can be updated"
                )
