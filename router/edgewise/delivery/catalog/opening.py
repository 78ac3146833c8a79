"""Whether an address is a signed channel or a plain model folder."""

from edgewise.delivery.catalog.interface import Catalog, Root, Storage
from edgewise.delivery.catalog.plain import PlainFolder
from edgewise.delivery.download import Clock
from edgewise.delivery.fetch import FetchError, open_fetcher
from edgewise.delivery.fetch.address import require
from edgewise.delivery.fetch.folder import FolderFetcher
from edgewise.delivery.settings import DownloadSettings
from edgewise.errors import DownloadFailedError
from edgewise_edge.installed.fetcher import FetchFailure
from edgewise_edge.store.manifest import MANIFEST_FILE


def open_catalog(
    address: str,
    *,
    store: Storage,
    root: Root | None = None,
    settings: DownloadSettings | None = None,
    clock: Clock | None = None,
) -> Catalog:
    """What `address` has. Everything is a signed channel, but for two kinds of plain model folders.

    These are hf:// addresses, and folders of this machine with a manifest.json, without `root`.
    Raises ConfigurationError, DownloadFailedError for a folder that is not there, and ChannelError
    for a channel without `root` that this store does not know.
    """
    if root is None and _is_plain(address):
        return PlainFolder(address, settings=settings, clock=clock)
    trust = require("edgewise.delivery.catalog.trust")
    channel: Catalog = trust.Channel(
        address, store=store, root=root, settings=settings, clock=clock
    )
    return channel


def _is_plain(address: str) -> bool:
    if isinstance(address, str) and address.lower().startswith("hf://"):
        return True
    if isinstance(address, str) and "://" in address and not address.lower().startswith("file:"):
        return False
    fetcher = open_fetcher(address)
    try:
        if isinstance(fetcher, FolderFetcher):
            fetcher.open(MANIFEST_FILE).close()
            return True
    except FetchError as error:
        if error.kind is FetchFailure.REFUSED:  # there is no folder, or it cannot be read
            raise DownloadFailedError(f"the channel cannot be read: {error}") from error
    return False
