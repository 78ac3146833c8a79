"""The files of a revision: what a manifest may name, and the model folder that is made of it."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from edgewise_edge.errors import (
    ModelCorruptError,
    ModelError,
    ModelIncompatibleError,
    ModelNotFoundError,
)
from edgewise_edge.installed.evaluation import EVALUATION_FILE
from edgewise_edge.installed.files.layout import Layout
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


@dataclass(frozen=True, slots=True)
class InstalledRevision:
    """A revision in the store. `size`: bytes of its files, which it may share with others."""

    name: str
    revision: str
    folder: Path
    size: int
    manifest: Manifest


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


def revision(layout: Layout, name: str, revision: str) -> InstalledRevision:
    """An installed one. Raises ModelNotFoundError or ModelCorruptError."""
    folder = layout.revision(name, revision)
    manifest = read(folder, name, revision)
    return InstalledRevision(name, revision, folder, size(manifest), manifest)


def revisions(layout: Layout, name: str) -> list[InstalledRevision]:
    """All of `name`, in the order of their names; those with a damaged manifest are left out."""
    found = []
    for each in layout.revisions(name):
        with suppress(ModelError):
            found.append(revision(layout, name, each))
    return found


def find_blob(layout: Layout, sha256: str) -> Path | None:
    """The file with this content, if it is in the store."""
    path = layout.blob(sha256)
    return path if is_ours(path) else None


def verify(folder: Path, name: str, revision: str) -> None:
    """Raise ModelCorruptError unless all files are those of the manifest."""
    manifest = read(folder, name, revision)
    for file in device_files(manifest):
        if not is_ours(folder / file):
            raise ModelCorruptError(f"{folder / file} is missing, a link or another user's")
    manifest.verify(folder, device_files(manifest))
