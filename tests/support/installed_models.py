"""Revisions for a store: small ones that cannot run, and copies of the bundled model."""

import hashlib
import json
from pathlib import Path

from edgewise_edge import Manifest
from edgewise_edge.installed.contents import device_files
from edgewise_edge.installed.store import ModelStore
from edgewise_edge.store.catalog import BUNDLED

_SIZES = {"vocabulary_size": 8, "context_window": 8, "layers": 1, "heads": 1, "width": 1}


def put_blob(store: ModelStore, content: bytes) -> str:
    """Download `content` into the store; its sha256."""
    sha256 = hashlib.sha256(content).hexdigest()
    if not store.blob(sha256):
        with store.partial(sha256, len(content)) as partial:
            piece = max(1000, len(content) // 3)
            for start in range(partial.size, len(content), piece):
                partial.append(content[start : start + piece])
            partial.finish()
    return sha256


def manifest_of(
    name: str, revision: str, files: dict[str, bytes], vocabulary: str = "letters"
) -> bytes:
    """A manifest of these files."""
    records = {
        file: {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for file, content in files.items()
    }
    fields = {"format": 1, "name": name, "revision": revision, "architecture": _SIZES}
    fields |= {"vocabulary": vocabulary, "files": records, "memory": 1}
    return json.dumps(fields).encode()


def files_of(revision: str) -> dict[str, bytes]:
    """Three files, of which two are the same in all revisions."""
    model = revision.encode() * 1000
    return {"model.tflite": model, "vocab.json": b"{}", "merges.txt": b"#version: 0.2"}


def install(store: ModelStore, name: str, revision: str, vocabulary: str = "letters") -> Path:
    """A revision that cannot run."""
    files = files_of(revision)
    for content in files.values():
        put_blob(store, content)
    return store.install(manifest_of(name, revision, files, vocabulary))


def activate(store: ModelStore, name: str, revision: str) -> None:
    """Install it and make it active; its probation is over."""
    install(store, name, revision)
    store.stage(name, revision)
    store.take_staged(name, generations=1)
    store.generation_ended(name, ok=True)


def install_tales(
    store: ModelStore, revision: str, model: bytes | None = None, name: str = "tales"
) -> Path:
    """The bundled model, or another with its vocabulary, as a revision that runs."""
    folder = BUNDLED / "tales"
    manifest = Manifest.read(folder)
    files = {file: (folder / file).read_bytes() for file in device_files(manifest)}
    files |= {"model.tflite": model} if model else {}
    for content in files.values():
        put_blob(store, content)
    raw = json.loads((folder / "manifest.json").read_bytes())
    raw |= json.loads(manifest_of(name, revision, files, manifest.vocabulary)) | {
        "architecture": raw["architecture"],
        "memory": raw["memory"],
    }
    return store.install(json.dumps(raw).encode())


def is_whole(folder: Path) -> bool:
    """Whether the files are those of the folder's manifest."""
    manifest = Manifest.read(folder)
    manifest.verify(folder, device_files(manifest))
    return True
