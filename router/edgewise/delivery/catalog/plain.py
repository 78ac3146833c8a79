"""A plain model folder, anywhere, as a catalog of one revision. Nothing is signed.

It is trusted as far as the address is: a folder that the user names, a server behind TLS. The files
are still checked against the folder's own manifest.
"""

import hashlib
from datetime import UTC, datetime

from edgewise.delivery.catalog.interface import Target
from edgewise.delivery.download import Clock, read_small
from edgewise.delivery.fetch import Fetcher, FetchError, open_fetcher
from edgewise.delivery.settings import DownloadSettings
from edgewise.errors import ChannelError
from edgewise_edge.errors import ModelError
from edgewise_edge.installed.channel_index import Index, IndexedRevision
from edgewise_edge.installed.contents import device_files, parse, size
from edgewise_edge.store.manifest import MANIFEST_FILE, MAX_MANIFEST_BYTES, Manifest

_UNKNOWN = datetime.fromtimestamp(0, UTC).isoformat()


class PlainFolder:
    """The model folder at `address`. Raises ConfigurationError."""

    def __init__(
        self,
        address: str,
        *,
        settings: DownloadSettings | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._settings = settings or DownloadSettings()
        self._clock = clock or Clock()
        self._address = address
        self._fetcher = open_fetcher(address, self._settings)
        self._targets: dict[str, Target] = {}

    @property
    def fetcher(self) -> Fetcher:
        """Reads its files."""
        return self._fetcher

    def refresh(self) -> Index:
        """Its one revision. Raises DownloadFailedError, or ChannelError if it is no model folder."""
        try:
            content = read_small(
                self._fetcher,
                MANIFEST_FILE,
                MAX_MANIFEST_BYTES,
                settings=self._settings,
                clock=self._clock,
            )
            manifest = parse(content)
            index = Index({manifest.name: (_revision(manifest),)})
        except (FetchError, ModelError, ValueError) as error:
            raise ChannelError(f"{self._address} is no model folder: {error}") from error
        self._targets = _targets(manifest, content)
        return index

    def target(self, path: str) -> Target | None:
        """See Catalog. A plain folder has no evaluation and no deltas."""
        return self._targets.get(path)

    def close(self) -> None:
        """Close the connections."""
        self._fetcher.close()


def _revision(manifest: Manifest) -> IndexedRevision:
    return IndexedRevision(
        number=1,
        revision=manifest.revision,
        published=_UNKNOWN,
        size=size(manifest),
        memory=manifest.memory,
        vocabulary=manifest.vocabulary,
    )


def _targets(manifest: Manifest, content: bytes) -> dict[str, Target]:
    folder = f"{manifest.name}/{manifest.revision}"
    own = Target(MANIFEST_FILE, len(content), hashlib.sha256(content).hexdigest())
    blobs = {
        f"blobs/{file.sha256}": Target(name, file.size, file.sha256)
        for name, file in device_files(manifest).items()
    }
    return {f"{folder}/{MANIFEST_FILE}": own, **blobs}
