"""A signed channel: a TUF repository, whose metadata is verified before anything is believed.

What this device has seen is kept, so that nobody can show it an older state. Nothing here touches
the models in use: without a trusted index there is no update, that is all.
"""

import hashlib
from contextlib import suppress

from tuf.api.exceptions import DownloadError, RepositoryError
from tuf.ngclient.updater import Updater

from edgewise.delivery.catalog.interface import Root, Storage, Target
from edgewise.delivery.catalog.metadata import METADATA_URL, MetadataFetcher, in_words
from edgewise.delivery.catalog.roots import Roots
from edgewise.delivery.download import Clock, download
from edgewise.delivery.fetch import Fetcher, open_fetcher
from edgewise.delivery.settings import DownloadSettings
from edgewise.errors import ChannelError
from edgewise_edge.installed.channel_index import INDEX_FILE, MAX_INDEX_BYTES, Index
from edgewise_edge.installed.files.disk import failures


class Channel:
    """The channel at `address`.

    `root` is its first trusted root.json (its bytes or a file), which came with the app or from the
    publisher by another way. It is needed once for each store. Raises ConfigurationError, and
    ChannelError if the root is missing.
    """

    def __init__(
        self,
        address: str,
        *,
        store: Storage,
        root: Root | None = None,
        settings: DownloadSettings | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._settings = settings or DownloadSettings()
        self._clock = clock or Clock()
        self._address = address
        self._store = store
        self._fetcher = open_fetcher(address, self._settings)
        self._roots = Roots(store.root, address)
        self._root = self._roots.bootstrap(root)
        self._updater: Updater | None = None

    @property
    def fetcher(self) -> Fetcher:
        """Reads its files."""
        return self._fetcher

    def refresh(self) -> Index:
        """What the channel offers now.

        Raises DownloadFailedError when it cannot be reached, ChannelExpiredError when its
        signatures are too old, ChannelError when they are not what they must be, and StoreError.
        """
        with failures(self._store.root), self._roots.remembered(self._root) as folder:
            metadata = MetadataFetcher(self._fetcher, self._settings, self._clock)
            with in_words(self._address, metadata, folder):
                updater = Updater(
                    str(folder),
                    METADATA_URL,
                    fetcher=metadata,
                    bootstrap=self._root,
                )
                updater.refresh()
            self._updater = updater
            return self._read_index()

    def target(self, path: str) -> Target | None:
        """See Catalog. Raises ChannelError before a refresh."""
        if self._updater is None:
            raise ChannelError(f"nothing is known of {self._address} yet; call refresh() first")
        try:
            info = self._updater.get_targetinfo(path)
        except (DownloadError, RepositoryError) as error:
            raise ChannelError(f"{self._address}: {path} is not signed: {error}") from error
        if info is None:
            return None
        sha256 = info.hashes.get("sha256", "")
        folder, _, name = path.rpartition("/")
        where = "/".join(part for part in ("targets", folder, f"{sha256}.{name}") if part)
        if not sha256:
            raise ChannelError(f"{self._address} signs no sha256 of {path}")
        return Target(where, info.length, sha256)

    def close(self) -> None:
        """Close the connections."""
        self._fetcher.close()

    def _read_index(self) -> Index:
        target = self.target(INDEX_FILE)
        if target is None or target.size > MAX_INDEX_BYTES:
            raise ChannelError(f"{self._address} has no {INDEX_FILE} that this version reads")
        content = self._kept(target.sha256)
        if content is None:
            with self._store.partial(target.sha256, target.size) as partial:
                content = download(
                    self._fetcher, target.path, partial, settings=self._settings, clock=self._clock
                ).read_bytes()
        try:
            return Index.parse(content)
        except ValueError as error:
            raise ChannelError(
                f"{INDEX_FILE} of {self._address} cannot be used: {error}"
            ) from error

    def _kept(self, sha256: str) -> bytes | None:
        """The index of an earlier refresh, if nothing has damaged it since."""
        with suppress(OSError):
            content = path.read_bytes() if (path := self._store.blob(sha256)) else b""
            if hashlib.sha256(content).hexdigest() == sha256:
                return content
        return None
