"""Removing what nothing uses. The caller holds the store's lock.

Files that are mapped stay readable for whoever has mapped them.
"""

import os
import time
from contextlib import suppress
from pathlib import Path

from edgewise_edge.errors import (
    EdgeError,
    ModelCorruptError,
    ModelError,
    ModelNotFoundError,
    StoreError,
)
from edgewise_edge.installed import contents
from edgewise_edge.installed.files import disk, marks
from edgewise_edge.installed.files.layout import Layout
from edgewise_edge.installed.files.partial import Partial
from edgewise_edge.installed.files.states import States
from edgewise_edge.store.active import report_once
from edgewise_edge.store.manifest import FileRecord, Manifest


def collect(states: States, grace: float) -> int:
    """Remove what is older than `grace` seconds; the bytes that are free now."""
    layout, freed = states.layout, 0
    for name in layout.names():
        in_use = states.kept(name)
        freed += _remove_leftovers(layout.model(name))
        if not states.state(name).probation:
            list(marks.crashed(layout.model(name)))  # which removes them
        for revision in layout.revisions(name):
            folder = layout.revision(name, revision)
            if in_use is not None and revision not in in_use and _is_old(folder, grace):
                freed += disk.remove_folder(folder)
    return freed + _remove_blobs(layout, grace) + _remove_partials(layout, grace)


def _remove_revision(layout: Layout, name: str, revision: str) -> int:
    """With the blobs that no other revision has."""
    folder = layout.revision(name, revision)
    with suppress(ModelError):
        files = contents.device_files(Manifest.read(folder)).values()
        freed = disk.remove_folder(folder)
        used = _used_blobs(layout)
        if used is None:
            return freed
        blobs = {layout.blob(record.sha256) for record in files}
        return freed + sum(disk.remove_file(blob) for blob in blobs if blob.name not in used)
    return disk.remove_folder(folder)


def _remove_model(layout: Layout, name: str) -> int:
    """All of it: its state first, so that loads turn to the bundled model."""
    if not layout.model(name).is_dir():
        raise ModelNotFoundError(f"{name} is not installed")
    disk.remove_file(layout.state(name))
    disk.sync(layout.model(name))
    freed = sum(_remove_revision(layout, name, each) for each in list(layout.revisions(name)))
    return freed + disk.remove_folder(layout.model(name))


def remove(states: States, name: str, revision: str | None) -> int:
    """As ModelStore.remove()."""
    layout = states.layout
    if revision is None:
        return _remove_model(layout, name)
    if not os.path.lexists(layout.revision(name, revision)):
        raise ModelNotFoundError(f"{name} {revision} is not installed")
    state = states.to_change(name)
    if revision in {state.active, state.pinned}:
        raise StoreError(f"{name} {revision} is in use; roll back or unpin it first")
    states.change(name, lambda now: now.without(revision))
    return _remove_revision(layout, name, revision)


def remove_damaged(states: States, name: str) -> None:
    """As ModelStore.remove_damaged(); it takes the lock itself, since reading the files takes long."""
    layout, revision = states.layout, states.state(name).active
    if revision is None:
        return
    folder, records = layout.revision(name, revision), set[FileRecord]()
    try:
        records.update(contents.device_files(contents.read(folder, name, revision)).values())
        contents.verify(folder, name, revision)
    except ModelNotFoundError:
        pass
    except ModelCorruptError as error:
        report_once(f"{name} {revision} is removed, to be fetched again: {error}")
        with states.writing():
            disk.remove_folder(folder)
            for record in records:
                _remove_damaged_blob(layout.blob(record.sha256), record)


def _remove_damaged_blob(blob: Path, record: FileRecord) -> None:
    with suppress(FileNotFoundError):
        if FileRecord.of(blob) != record:
            disk.remove_file(blob)


def _remove_leftovers(model: Path) -> int:
    """What a killed process was making or removing."""
    freed = 0
    for path in list(model.iterdir()):
        if path.name.startswith((disk.NEW, disk.GONE)):
            freed += disk.remove_folder(path) if path.is_dir() else disk.remove_file(path)
    return freed


def _remove_blobs(layout: Layout, grace: float) -> int:
    used = _used_blobs(layout)
    if used is None or not layout.blobs.exists():
        return 0
    blobs = (path for path in list(layout.blobs.iterdir()) if path.name not in used)
    return sum(disk.remove_file(path) for path in blobs if _is_old(path, grace))


def _used_blobs(layout: Layout) -> set[str] | None:
    """The names of those that installed revisions have; None: unknown, since one is damaged."""
    used = set()
    for name in layout.names():
        for revision in layout.revisions(name):
            folder = layout.revision(name, revision)
            try:
                manifest = contents.read(folder, name, revision)
            except ModelError:
                return None
            used |= {layout.blob(r.sha256).name for r in contents.device_files(manifest).values()}
    return used


def _remove_partials(layout: Layout, grace: float) -> int:
    freed = 0
    for path in list(layout.partials.glob("*.part")):
        with suppress(EdgeError, OSError):  # in use, or no file of ours
            if _is_old(path, grace):
                partial = Partial(layout, path.stem, 2**60)
                partial.lock()
                freed += partial.discard()
    for path in list(layout.partials.glob("*.json")):  # journals of what has ended
        part = layout.partials / f"{path.stem.removeprefix(disk.NEW)}.part"
        if not part.exists() and _is_old(path, grace):
            freed += disk.remove_file(path)
    return freed


def _is_old(path: Path, grace: float) -> bool:
    """Whether it was written more than `grace` seconds ago, as far as the clock can be trusted."""
    with suppress(OSError):
        age = time.time() - path.lstat().st_mtime
        if age < 0:  # the clock has been set back: its age counts from now
            os.utime(path, follow_symlinks=False)
        return age >= grace
    return False
