"""The small files of a revision that a channel has: its manifest and its evaluation."""

import hashlib
from dataclasses import dataclass, field

from edgewise.delivery.catalog import Catalog
from edgewise.delivery.download import Clock, read_small
from edgewise.delivery.settings import DownloadSettings
from edgewise.errors import ChannelError, DownloadFailedError
from edgewise_edge.errors import ModelIncompatibleError
from edgewise_edge.installed.channel_index import IndexedRevision
from edgewise_edge.installed.contents import parse
from edgewise_edge.installed.evaluation import EVALUATION_FILE, MAX_EVALUATION_BYTES
from edgewise_edge.installed.fetcher import FetchError
from edgewise_edge.installed.store import ModelStore
from edgewise_edge.store.manifest import MANIFEST_FILE, MAX_MANIFEST_BYTES, MODEL_FILE


@dataclass(slots=True)
class Published:
    """Reads them once for each revision. Raises DownloadFailedError and ChannelError."""

    name: str  # of the model
    catalog: Catalog
    store: ModelStore
    settings: DownloadSettings
    clock: Clock
    _read: dict[str, bytes] = field(default_factory=dict)  # by sha256

    def manifest(self, revision: IndexedRevision) -> bytes:
        """The manifest, which is that revision's and says of it what the index says."""
        content = self._file(revision, MANIFEST_FILE, MAX_MANIFEST_BYTES)
        if content is None:
            raise ChannelError(f"{self.catalog.fetcher} has no manifest of {revision.revision}")
        manifest = parse(content)
        if (manifest.name, manifest.revision, manifest.vocabulary) != (
            self.name,
            revision.revision,
            revision.vocabulary,
        ):
            raise ModelIncompatibleError(
                f"the manifest of {self.name} {revision.revision} is that of {manifest.name} "
                f"{manifest.revision}, or of another vocabulary than the index says"
            )
        return content

    def evaluation(self, revision: IndexedRevision) -> bytes | None:
        """What the publisher measured; None where it has signed nothing."""
        return self._file(revision, EVALUATION_FILE, MAX_EVALUATION_BYTES)

    def model_sha256(self, revision: IndexedRevision) -> str:
        """Of its model file."""
        return parse(self.manifest(revision)).files[MODEL_FILE].sha256

    def _file(self, revision: IndexedRevision, file: str, limit: int) -> bytes | None:
        target = self.catalog.target(f"{self.name}/{revision.revision}/{file}")
        if target is None:
            return None
        if target.sha256 not in self._read:
            self._read[target.sha256] = self._fetch(target.path, min(limit, target.size))
        content = self._read[target.sha256]
        if hashlib.sha256(content).hexdigest() != target.sha256:
            del self._read[target.sha256]
            raise DownloadFailedError(
                f"{target.path} of {self.catalog.fetcher} is not the file that was signed; try "
                "again later"
            )
        return content

    def _fetch(self, path: str, limit: int) -> bytes:
        try:
            return read_small(
                self.catalog.fetcher, path, limit, settings=self.settings, clock=self.clock
            )
        except FetchError as error:
            raise DownloadFailedError(str(error)) from error
