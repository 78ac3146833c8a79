"""Installing a revision from a stream that the app hands in."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from edgewise_edge.checks import shown
from edgewise_edge.errors import ModelCorruptError, ModelError, ModelNotFoundError, StoreError
from edgewise_edge.installed import contents
from edgewise_edge.installed.files.layout import Layout
from edgewise_edge.installed.files.partial import Partial
from edgewise_edge.installed.files.states import States
from edgewise_edge.installed.install import install
from edgewise_edge.store.active import active_folder
from edgewise_edge.store.catalog import BUNDLED
from edgewise_edge.store.files import read_text
from edgewise_edge.store.manifest import (
    MANIFEST_FILE,
    MAX_MANIFEST_BYTES,
    MODEL_FILE,
    FileRecord,
    Manifest,
)

_PIECE = 2**22  # bytes of the stream that are written at a time


def add(
    states: States,
    name: str,
    stream: Iterable[bytes],
    size: int,
    sha256: str | None,
    manifest: Path | bytes | None,
    offset: int,
) -> str:
    """As ModelStore.add(); the revision's name."""
    content = _manifest(states.layout, name, sha256, manifest)
    parsed = contents.parse(content)
    model = parsed.files[MODEL_FILE]
    if parsed.name != name:
        raise StoreError(f"the manifest is of the model {parsed.name!r}, not of {name!r}")
    if sha256 not in {None, model.sha256} or size != model.size:
        raise StoreError(
            f"the stream has {size:,} bytes (sha256 {sha256 or 'not given'}), the model file of "
            f"{name} {parsed.revision} has {model.size:,} ({model.sha256}); give its manifest"
        )
    if not contents.find_blob(states.layout, model.sha256):
        with Partial(states.layout, model.sha256, size) as partial:
            _write(partial, stream, offset)
            partial.finish()
    _fetch_others(states.layout, parsed)
    install(states, content)
    return parsed.revision


def _write(partial: Partial, stream: Iterable[bytes], offset: int) -> None:
    if not 0 <= offset <= partial.size:
        raise StoreError(
            f"offset is {shown(offset)}; the stream must start at 0 to {partial.size}, as "
            f"{partial.size:,} bytes are there"
        )
    known = partial.size - offset  # bytes of the stream
    try:
        for chunk in stream:
            for piece in _pieces(chunk[known:]):
                partial.append(piece)
            known = max(0, known - len(chunk))
    finally:
        partial.flush()
    if partial.size < partial.total:
        raise ModelCorruptError(
            f"the stream ended after {partial.size:,} of {partial.total:,} bytes; they are kept: "
            f"hand in a stream that goes on from offset {partial.size}"
        )


def _pieces(chunk: bytes) -> Iterator[bytes]:
    return (chunk[start : start + _PIECE] for start in range(0, len(chunk), _PIECE))


def _manifest(layout: Layout, name: str, sha256: str | None, given: Path | bytes | None) -> bytes:
    if isinstance(given, bytes):
        return given
    if given is not None:
        path = given / MANIFEST_FILE if given.is_dir() else given
        try:
            return read_text(path, MAX_MANIFEST_BYTES).encode()
        except (OSError, ValueError) as error:
            raise ModelNotFoundError(f"the manifest {path} cannot be read: {error}") from error
    for folder in _folders(layout, name):
        with suppress(ModelError):
            model = Manifest.read(folder).files.get(MODEL_FILE)
            if model and sha256 in {None, model.sha256}:
                return (folder / MANIFEST_FILE).read_bytes()
    raise ModelNotFoundError(
        f"no manifest of {name} is here for the stream's file (sha256 {sha256 or 'not given'}); "
        "give one with manifest"
    )


def _folders(layout: Layout, name: str) -> list[Path]:
    """The model folders of that name: what is active, the others, the bundled one."""
    active = active_folder(name, layout.root)
    installed = [each.folder for each in contents.revisions(layout, name)]
    return [*([active] if active else []), *installed, BUNDLED / name]


def _fetch_others(layout: Layout, manifest: Manifest) -> None:
    """Make blobs of the other files, out of the folders of the same name."""
    for file, record in contents.device_files(manifest).items():
        if not contents.find_blob(layout, record.sha256):
            path = _find(layout, manifest.name, file, record)
            if path:
                with Partial(layout, record.sha256, record.size) as partial:
                    partial.copy(path)


def _find(layout: Layout, name: str, file: str, record: FileRecord) -> Path | None:
    for folder in _folders(layout, name):
        with suppress(OSError):
            if FileRecord.of(folder / file) == record:
                return folder / file
    return None
