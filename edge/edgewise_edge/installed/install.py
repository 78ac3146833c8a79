"""Installing a revision: a model folder of files that are in the store."""

import os
from contextlib import suppress
from pathlib import Path

from edgewise_edge.errors import (
    ModelCorruptError,
    ModelError,
    ModelNotFoundError,
    ModelRefusedError,
)
from edgewise_edge.installed.contents import device_files, find_blob, parse
from edgewise_edge.installed.evaluation import EVALUATION_FILE, Evaluation
from edgewise_edge.installed.files import disk
from edgewise_edge.installed.files.layout import Layout
from edgewise_edge.installed.files.states import States
from edgewise_edge.store.active import is_folder
from edgewise_edge.store.files import is_ours
from edgewise_edge.store.manifest import MANIFEST_FILE, FileRecord, Manifest


def install(states: States, content: bytes, evaluation: bytes | None = None) -> Path:
    """As ModelStore.install()."""
    manifest, layout = parse(content), states.layout
    if evaluation is not None:
        Evaluation.parse(evaluation)
    with disk.failures(layout.root):
        _verify_blobs(layout, manifest)  # before the lock: it takes long
    with states.writing():
        _require_blobs(layout, manifest)  # they may have been collected meanwhile
        return _install(layout, manifest, content, evaluation)


def _verify_blobs(layout: Layout, manifest: Manifest) -> None:
    """Raise ModelNotFoundError for a missing blob, ModelCorruptError for a damaged one.

    A damaged one is removed, so that it is fetched again.
    """
    _require_blobs(layout, manifest)
    for file, record in device_files(manifest).items():
        blob = layout.blob(record.sha256)
        with suppress(FileNotFoundError):  # it has just been collected
            if FileRecord.of(blob) != record:
                disk.remove_file(blob)
                raise ModelCorruptError(
                    f"{file} of {manifest.name} {manifest.revision} was damaged in the store and "
                    "has been removed; fetch it again"
                )


def _require_blobs(layout: Layout, manifest: Manifest) -> None:
    for file, record in device_files(manifest).items():
        if not find_blob(layout, record.sha256):
            raise ModelNotFoundError(
                f"{file} of {manifest.name} {manifest.revision} is not in the store; fetch it again"
            )


def _install(layout: Layout, manifest: Manifest, content: bytes, evaluation: bytes | None) -> Path:
    """The model folder of verified blobs. The caller holds the lock."""
    folder = layout.revision(manifest.name, manifest.revision)
    if _is_sound(folder):
        if (folder / MANIFEST_FILE).read_bytes() != content:
            raise ModelRefusedError(
                f"{manifest.name} {manifest.revision} is installed with other content: a revision "
                "never changes; publish it under another name"
            )
        _repair(layout, manifest, folder, evaluation)
        return folder
    if os.path.lexists(folder):
        disk.remove_folder(folder)
    new = folder.with_name(disk.NEW + folder.name)
    if os.path.lexists(new):
        disk.remove_folder(new)
    disk.make_folder(new)
    for file, record in device_files(manifest).items():
        disk.link_or_copy(layout.blob(record.sha256), new / file)
    disk.write(new / MANIFEST_FILE, content)
    if evaluation is not None:
        disk.write(new / EVALUATION_FILE, evaluation)
    disk.sync(new)
    disk.move(new, folder)
    return folder


def _is_sound(folder: Path) -> bool:
    """Whether the folder has a manifest that can be read."""
    with suppress(ModelError):
        return is_folder(folder) and is_ours(folder / MANIFEST_FILE) and bool(Manifest.read(folder))
    return False


def _repair(layout: Layout, manifest: Manifest, folder: Path, evaluation: bytes | None) -> None:
    """Replace damaged files one by one: the folder may be in use."""
    for file, record in device_files(manifest).items():
        path = folder / file
        if not (is_ours(path) and FileRecord.of(path) == record):
            new = folder / (disk.NEW + file)
            disk.remove_file(new)
            disk.link_or_copy(layout.blob(record.sha256), new)
            disk.move(new, path)
    if evaluation is not None:
        disk.write(folder / EVALUATION_FILE, evaluation)
