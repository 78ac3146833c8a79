"""The files of a revision: what a manifest may name, and the model folder that is made of it."""

import os
from contextlib import suppress
from pathlib import Path

from edgewise_edge.errors import (
    ModelCorruptError,
    ModelError,
    ModelIncompatibleError,
    ModelNotFoundError,
    ModelRefusedError,
)
from edgewise_edge.installed import disk
from edgewise_edge.installed.evaluation import EVALUATION_FILE, Evaluation
from edgewise_edge.installed.layout import Layout
from edgewise_edge.store.active import is_folder, is_name, is_revision
from edgewise_edge.store.files import is_ours
from edgewise_edge.store.manifest import (
    MANIFEST_FILE,
    MAX_MANIFEST_BYTES,
    MODEL_FILE,
    FileRecord,
    Manifest,
)

KERAS_FILES = frozenset({"config.json", "model.safetensors"})  # the cloud's
REQUIRED_FILES = frozenset({MODEL_FILE, "vocab.json", "merges.txt"})
_OURS = {MANIFEST_FILE, EVALUATION_FILE}
_MAX_FILES = 32


def parse(manifest: bytes) -> Manifest:
    """A manifest that may be installed. Raises ModelCorruptError or ModelIncompatibleError."""
    if len(manifest) > MAX_MANIFEST_BYTES:
        raise ModelCorruptError(f"a manifest has {len(manifest):,} bytes, more than is possible")
    parsed = Manifest.parse(manifest, "the revision")
    if not (is_name(parsed.name) and is_revision(parsed.revision)):
        raise ModelIncompatibleError(
            f"the model {parsed.name!r}, revision {parsed.revision!r}, cannot be installed: a name "
            "has 1 to 64 letters, digits, '.', '_' and '-', and starts with a letter or a digit"
        )
    names = set(parsed.files)
    odd = {name for name in names if not is_name(name)} | (names & _OURS)
    if odd or len(names) > _MAX_FILES:
        raise ModelIncompatibleError(f"{parsed.name} cannot be installed: odd files {sorted(odd)}")
    if missing := REQUIRED_FILES - names:
        raise ModelIncompatibleError(
            f"{parsed.name} cannot be installed: its manifest lists no {', '.join(sorted(missing))}"
        )
    return parsed


def device_files(manifest: Manifest) -> dict[str, FileRecord]:
    """The files that a device needs, by name."""
    return {name: record for name, record in manifest.files.items() if name not in KERAS_FILES}


def size(manifest: Manifest) -> int:
    """Of these files, in bytes."""
    return sum(record.size for record in device_files(manifest).values())


def read(folder: Path, name: str, revision: str) -> Manifest:
    """The manifest of an installed revision. Raises ModelNotFoundError or ModelCorruptError."""
    if not is_folder(folder):
        raise ModelNotFoundError(f"{name} {revision} is not installed")
    if not is_ours(folder / MANIFEST_FILE):
        raise ModelCorruptError(f"{folder / MANIFEST_FILE} is missing, a link or another user's")
    try:
        manifest = parse((folder / MANIFEST_FILE).read_bytes())
    except OSError as error:
        raise ModelCorruptError(f"{folder / MANIFEST_FILE} cannot be read: {error}") from error
    if (manifest.name, manifest.revision) != (name, revision):
        raise ModelCorruptError(
            f"{folder} holds another model: {manifest.name} {manifest.revision}"
        )
    return manifest


def verify(folder: Path, name: str, revision: str) -> None:
    """Raise ModelCorruptError unless all files are those of the manifest."""
    manifest = read(folder, name, revision)
    for file in device_files(manifest):
        if not is_ours(folder / file):
            raise ModelCorruptError(f"{folder / file} is missing, a link or another user's")
    manifest.verify(folder, device_files(manifest))


def verify_blobs(layout: Layout, manifest: Manifest) -> None:
    """Raise ModelNotFoundError for a missing blob, ModelCorruptError for a damaged one.

    A damaged one is removed, so that it is fetched again.
    """
    for file, record in device_files(manifest).items():
        blob = layout.blob(record.sha256)
        if not is_ours(blob):
            raise ModelNotFoundError(
                f"{file} of {manifest.name} {manifest.revision} is not in the store; fetch it again"
            )
        if FileRecord.of(blob) != record:
            disk.remove_file(blob)
            raise ModelCorruptError(
                f"{file} of {manifest.name} {manifest.revision} was damaged in the store and has "
                "been removed; fetch it again"
            )


def install(layout: Layout, manifest: Manifest, content: bytes, evaluation: bytes | None) -> Path:
    """The model folder of verified blobs. The caller holds the lock."""
    if evaluation is not None:
        Evaluation.parse(evaluation)
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
