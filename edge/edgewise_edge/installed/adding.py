"""Installing a revision from a stream that the app hands in."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from os import PathLike
from pathlib import Path

from edgewise_edge.checks import Range, shown
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

_BYTES = Range(0, 2**50, whole=True, unit="bytes")
_PIECE = 2**22  # bytes of the stream that are written at a time


def add(
    states: States,
    name: str,
    stream: Iterable[bytes],
    size: int,
    sha256: str | None,
    manifest: Path | str | bytes | None,
    offset: int,
) -> str:
    """As ModelStore.add(); the revision's name."""
    states.layout.model(name)  # checks it
    _BYTES.check("size", size, StoreError)
    _BYTES.check("offset", offset, StoreError)
    content, beside = _manifest(states.layout, name, sha256, manifest)
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
    _fetch_others(states.layout, parsed, beside)
    install(states, content)
    return parsed.revision


def _write(partial: Partial, stream: Iterable[bytes], offset: int) -> None:
    if offset > partial.size:
        raise StoreError(
            f"offset is {shown(offset)}; the stream must start at 0 to {partial.size}, as "
            f"{partial.size:,} bytes are there"
        )
    known = partial.size - offset  # bytes of the stream
    try:
        for chunk in _checked(stream):
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


def _checked(stream: Iterable[bytes]) -> Iterator[bytes]:
    if not isinstance(stream, Iterable):
        raise StoreError(f"stream is {shown(stream)}; it must be an iterable of bytes")
    for chunk in stream:
        if not isinstance(chunk, bytes | bytearray | memoryview):
            raise StoreError(f"the stream gave {shown(chunk)}; it must give bytes")
        yield bytes(chunk)


def _pieces(chunk: bytes) -> Iterator[bytes]:
    return (chunk[start : start + _PIECE] for start in range(0, len(chunk), _PIECE))


def _manifest(
    layout: Layout, name: str, sha256: str | None, given: Path | str | bytes | None
) -> tuple[bytes, list[Path]]:
    """The manifest, and the folders where the other files may be."""
    folders = _folders(layout, name)
    if isinstance(given, bytes):
        return given, folders
    if given is not None:
        if not isinstance(given, str | PathLike):
            raise StoreError(f"manifest is {shown(given)}; it must be a file, a folder or bytes")
        path = Path(given)
        path = path / MANIFEST_FILE if path.is_dir() else path
        try:
            return read_text(path, MAX_MANIFEST_BYTES).encode(), [path.parent, *folders]
        except (OSError, ValueError) as error:
            raise ModelNotFoundError(f"the manifest {path} cannot be read: {error}") from error
    for folder in folders:
        with suppress(ModelError):
            model = Manifest.read(folder).files.get(MODEL_FILE)
            if model and sha256 in {None, model.sha256}:
                return (folder / MANIFEST_FILE).read_bytes(), folders
    raise ModelNotFoundError(
        f"no manifest of {name} is here for the stream's file (sha256 {sha256 or 'not given'}); "
        "give one with manifest"
    )


def _folders(layout: Layout, name: str) -> list[Path]:
    """The model folders of that name: what is active, the others, the bundled one."""
    active = active_folder(name, layout.root)
    installed = [each.folder for each in contents.revisions(layout, name)]
    return [*([active] if active else []), *installed, BUNDLED / name]


def _fetch_others(layout: Layout, manifest: Manifest, folders: list[Path]) -> None:
    """Make blobs of the other files, out of these folders."""
    for file, record in contents.device_files(manifest).items():
        if not contents.find_blob(layout, record.sha256):
            path = _find(folders, file, record)
            if path:
                with Partial(layout, record.sha256, record.size) as partial:
                    partial.copy(path)


def _find(folders: list[Path], file: str, record: FileRecord) -> Path | None:
    for folder in folders:
        with suppress(OSError):
            if FileRecord.of(folder / file) == record:
                return folder / file
    return None
