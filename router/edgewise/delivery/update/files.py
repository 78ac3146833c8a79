"""The files of a revision: which are here, and how the others get here."""

import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from edgewise.delivery.catalog import Catalog, Target
from edgewise.delivery.download import Clock, download
from edgewise.delivery.progress import ProgressMeter
from edgewise.delivery.settings import DownloadSettings
from edgewise.errors import ChannelError, DeliveryError
from edgewise_edge.errors import ModelError, StoreError
from edgewise_edge.installed.channel_index import DeltaRecord, IndexedRevision
from edgewise_edge.installed.contents import device_files
from edgewise_edge.installed.delta import patched
from edgewise_edge.installed.files import disk
from edgewise_edge.installed.store import ModelStore
from edgewise_edge.store.manifest import MODEL_FILE, FileRecord, Manifest

_log = logging.getLogger("edgewise.delivery")


@dataclass(frozen=True, slots=True)
class Patch:
    """A delta, and the file here that it is applied to."""

    old: Path
    delta: Target


@dataclass(frozen=True, slots=True)
class Missing:
    """A file that has to be fetched: whole, or with a delta."""

    record: FileRecord
    whole: Target
    patch: Patch | None
    there: int  # bytes of it, or of the delta, from an earlier try

    @property
    def size(self) -> int:
        """Bytes to fetch, with those that are there."""
        return self.patch.delta.size if self.patch else self.record.size


@dataclass(frozen=True, slots=True)
class Plan:
    """What has to happen before a revision can be installed."""

    copied: tuple[tuple[Path, FileRecord], ...]  # from models of this device
    missing: tuple[Missing, ...]

    @property
    def total(self) -> int:
        """Bytes to fetch, with those that are there."""
        return sum(file.size for file in self.missing)

    @property
    def resumed(self) -> int:
        """Bytes that are there from an earlier try."""
        return sum(file.there for file in self.missing)

    @property
    def delta(self) -> bool:
        """Whether a delta is fetched."""
        return any(file.patch for file in self.missing)

    @property
    def space(self) -> int:
        """Bytes of disk that it takes."""
        copied = sum(record.size for _, record in self.copied)
        whole = sum(file.record.size for file in self.missing)
        deltas = sum(file.size for file in self.missing if file.patch)
        return copied + whole + deltas - self.resumed


def make_plan(
    manifest: Manifest,
    revision: IndexedRevision,
    folders: Sequence[Path],
    store: ModelStore,
    catalog: Catalog,
) -> Plan:
    """What is missing of `manifest`. `folders` hold models whose files may be used.

    Raises ChannelError if the channel lacks a file.
    """
    copied, missing = [], []
    for name, record in device_files(manifest).items():
        if store.blob(record.sha256):
            continue
        if path := _find(name, record, folders):
            copied.append((path, record))
        else:
            missing.append(_missing(name, record, revision, folders, store, catalog))
    return Plan(tuple(copied), tuple(missing))


def _find(name: str, record: FileRecord, folders: Sequence[Path]) -> Path | None:
    """Where the file is, by the manifests; its content is verified when it is copied."""
    for folder in folders:
        with suppress(ModelError, OSError):
            path = folder / name
            if Manifest.read(folder).files.get(name) == record and (
                path.stat().st_size == record.size
            ):
                return path
    return None


def _missing(
    name: str,
    record: FileRecord,
    revision: IndexedRevision,
    folders: Sequence[Path],
    store: ModelStore,
    catalog: Catalog,
) -> Missing:
    whole = _whole(catalog, name, record)
    there = _there(store, record.sha256, record.size)
    if name == MODEL_FILE:
        for delta in revision.deltas:
            patch = _patch(delta, record, folders, store, catalog)
            if patch:
                begun = _there(store, patch.delta.sha256, patch.delta.size)
                if patch.delta.size - begun < record.size - there:
                    return Missing(record, whole, patch, begun)
    return Missing(record, whole, None, there)


def _whole(catalog: Catalog, name: str, record: FileRecord) -> Target:
    target = catalog.target(f"blobs/{record.sha256}")
    if target is None or (target.size, target.sha256) != (record.size, record.sha256):
        raise ChannelError(
            f"{catalog.fetcher} does not have the {name} that a manifest there names"
        )
    return target


def _patch(
    delta: DeltaRecord,
    record: FileRecord,
    folders: Sequence[Path],
    store: ModelStore,
    catalog: Catalog,
) -> Patch | None:
    target = catalog.target(delta.path) if delta.to == record.sha256 else None
    old = store.blob(delta.from_) if target else None
    for folder in folders if target else ():
        with suppress(ModelError):
            if Manifest.read(folder).files[MODEL_FILE].sha256 == delta.from_:
                old = old or folder / MODEL_FILE
    return Patch(old, target) if target and old else None


def _there(store: ModelStore, sha256: str, size: int) -> int:
    """Bytes of the file that are in the store."""
    if store.blob(sha256):
        return size
    with suppress(OSError):
        return min(size, store.partial(sha256, size).path.stat().st_size)
    return 0


@dataclass(slots=True)
class FileFetcher:
    """Carries out a plan."""

    store: ModelStore
    catalog: Catalog
    settings: DownloadSettings
    clock: Clock
    meter: ProgressMeter

    def fetch(self, plan: Plan) -> None:
        """Have all files as blobs. Raises DownloadFailedError, StoreError, ChannelError."""
        for path, record in plan.copied:
            try:
                with self.store.partial(record.sha256, record.size) as partial:
                    partial.copy(path)
            except (ModelError, StoreError) as error:  # it is damaged, say
                _log.warning("%s cannot be used, it is fetched: %s", path, error)
                self.meter.file_failed(0, record.size)
                self.target(_whole(self.catalog, path.name, record))
                self.meter.file_ended()
        for file in plan.missing:
            self._fetch(file)
            self.meter.file_ended()

    def target(self, target: Target) -> Path:
        """The blob of one file of the channel."""
        if blob := self.store.blob(target.sha256):
            self.meter.file(target.size, target.size, target.size)
            return blob
        with self.store.partial(target.sha256, target.size) as partial:
            return download(
                self.catalog.fetcher,
                target.path,
                partial,
                settings=self.settings,
                on_progress=self.meter.file,
                clock=self.clock,
            )

    def _fetch(self, file: Missing) -> None:
        if file.patch:
            try:
                self._apply(file.patch, file.record)
            except (DeliveryError, ModelError, StoreError, OSError) as error:
                _log.warning("a delta cannot be used, the whole file is fetched: %s", error)
                self.meter.file_failed(file.size, file.record.size)
            else:
                return
        self.target(file.whole)

    def _apply(self, patch: Patch, record: FileRecord) -> None:
        delta = self.target(patch.delta)
        try:
            with self.store.partial(record.sha256, record.size) as partial:
                partial.reset()
                for chunk in patched(patch.old, delta, record.size):
                    partial.append(chunk)
                partial.finish()
        finally:
            disk.remove_file(delta)
