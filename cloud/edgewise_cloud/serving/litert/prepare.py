"""A checkpoint as the engine runs it: converted once, and kept in the user's cache folder."""

import contextlib
import hashlib
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from edgewise_cloud import convert
from edgewise_cloud.console import Progress
from edgewise_cloud.keras_models.find import HUB_PREFIX, find_checkpoint, model_name, read_manifest
from edgewise_cloud.serving.litert.conversion import convert_in_child
from edgewise_edge.errors import EdgeError
from edgewise_edge.runtime import signatures
from edgewise_edge.store.cache_folder import NOWHERE, cache_folder, report_unusable
from edgewise_edge.store.files import is_owner
from edgewise_edge.store.manifest import FileRecord, Manifest

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_CONTENTS = ("*.json", "*.txt", "*.safetensors", "*.h5")  # files that say what a checkpoint is
_MAX_IDLE = 30 * 24 * 3600.0  # seconds without use, after which a conversion is removed


@dataclass(frozen=True, slots=True)
class PreparedModel:
    """The device model that was made of a checkpoint, and what the checkpoint is called."""

    folder: Path
    manifest: Manifest  # of the folder
    name: str
    revision: str


@contextmanager
def prepared(checkpoint: str, progress: Progress) -> Iterator[PreparedModel]:
    """The conversion of `checkpoint`, made unless it is there; to be loaded within the block.

    Raises CheckpointError and ConversionError.
    """
    source = find_checkpoint(checkpoint) or _fetched(checkpoint)
    origin = read_manifest(source) if source else None
    key = _key(checkpoint, source, origin)
    with contextlib.ExitStack() as stack:
        place = cache_folder() / "served"
        # What a hub has under a name may change: only what can be compared is kept.
        if (source is None and "://" in checkpoint) or not _usable(place):
            place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder = place / key
        if (found := _read(folder)) is None:
            with _alone(place / f".{key}.lock"):
                if (found := _read(folder)) is None:
                    _convert(checkpoint, place, key, progress)
                    found = Manifest.read(folder)
        yield PreparedModel(
            folder=folder,
            manifest=found,
            name=model_name(checkpoint, source),
            revision=origin.revision if origin else "unversioned",
        )


def _fetched(checkpoint: str) -> Path | None:
    """The folder of `hf://USER/MODEL`; None for what KerasHub fetches, and what cannot be fetched."""
    if not checkpoint.startswith(HUB_PREFIX):
        return None
    from edgewise_cloud.keras_models.hub import fetch_checkpoint  # takes 0.2 s

    with suppress(Exception):  # the conversion fails too, and says why
        return fetch_checkpoint(checkpoint)
    return None


def _key(checkpoint: str, source: Path | None, origin: Manifest | None) -> str:
    """By the contents, or by the name of a preset, whose version is KerasHub's; and by the converter."""
    sources = [*sorted(Path(convert.__path__[0]).glob("*.py")), Path(signatures.__file__)]
    converter = [each.read_text("utf-8") for each in sources]
    converter += map(version, ("tensorflow", "ai-edge-litert", "edgewise-edge"))
    if source is None:
        contents = [checkpoint, version("keras-hub")]
    elif origin:
        contents = [record.sha256 for record in origin.files.values()]
    else:
        files = sorted(file for pattern in _CONTENTS for file in source.rglob(pattern))
        contents = [f"{file.relative_to(source)} {FileRecord.of(file).sha256}" for file in files]
    return hashlib.sha256("\n".join([*converter, *contents]).encode()).hexdigest()[:32]


def _read(folder: Path) -> Manifest | None:
    """The manifest of a conversion that is whole and this user's or root's."""
    try:
        if not is_owner(folder.lstat()):
            return None
        manifest = Manifest.read(folder)
        manifest.verify(folder, manifest.files)
    except (OSError, EdgeError):
        return None
    with suppress(OSError):
        os.utime(folder)  # the time of last use
    return manifest


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """One process converts at a time, since each takes gigabytes; the others find what it made."""
    with lock.open("wb") as file:
        if fcntl:
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _convert(checkpoint: str, place: Path, key: str, progress: Progress) -> None:
    partial, folder = place / f".{uuid.uuid4().hex}", place / key
    try:
        convert_in_child(checkpoint, partial, progress)
        _remove_unused(place)
        if folder.exists() and _read(folder) is None:
            shutil.rmtree(folder)  # it was damaged
        with suppress(OSError):  # another process was faster
            partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _usable(place: Path) -> bool:
    try:
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".", dir=place):
            pass
    except OSError as error:
        if place.parent != NOWHERE:
            report_unusable(place, error)
        return False
    return True


def _remove_unused(place: Path) -> None:
    for folder in place.iterdir():
        with suppress(OSError):
            if time.time() - folder.stat().st_mtime > _MAX_IDLE:
                shutil.rmtree(folder)
