"""Which files of models were compared with their manifests before, on this machine."""

import contextlib
import hashlib
import os
import time
from pathlib import Path

from edgewise_edge.store.cache_folder import cache_folder
from edgewise_edge.store.content_record import ContentRecord, state_of
from edgewise_edge.store.files import is_ours, is_owner
from edgewise_edge.store.manifest import Manifest

_OTHERS_WRITE = 0o022
_SETTLED = (
    3.0  # seconds: two changes in one tick (FAT: 2 s) of the file system's clock look like one
)


def verify_once(manifest: Manifest, folder: Path, name: str) -> None:
    """Manifest.verify() for one file, which is not read again while nothing has touched it.

    What is trusted is a record in this user's cache folder, and the kernel's word that the file is
    the same (device, inode, size) and was not written to since (times of the content and of the
    inode, of which no program can set the latter). After a start of the machine it is read again: a
    disk may have lost something. So is a file that others may write to, or that lies in a folder
    where they may: then only its content says what it is. Raises ModelCorruptError.
    """
    manifest.verify_size(folder, name)
    path = (folder / name).resolve()
    record_path = _record_path(path)
    try:
        found = ContentRecord(path.stat().st_size, manifest.files[name].sha256, state_of(path))
        may_be_kept = _only_we_write(path) and time.time() - path.stat().st_ctime > _SETTLED
    except OSError:
        manifest.verify(folder, [name])  # it says what is wrong
        return
    if may_be_kept and _read(record_path) == found:
        return
    manifest.verify(folder, [name])
    if may_be_kept:
        # If it cannot be written, the file is read each time. The prepared weights tell of that.
        with contextlib.suppress(OSError):
            record_path.parent.mkdir(parents=True, exist_ok=True)
            found.write(record_path)


def _record_path(path: Path) -> Path:
    name = hashlib.sha256(os.fsencode(path)).hexdigest()
    return cache_folder() / "verified" / f"{name}.json"


def _read(path: Path) -> ContentRecord | None:
    if is_ours(path):
        with contextlib.suppress(OSError, TypeError, ValueError):
            return ContentRecord.read(path)
    return None


def _only_we_write(path: Path) -> bool:
    """Whether none but this user and root may change the file, or put another in its place.

    Never on Windows, where the mode does not tell.
    """
    return all(
        is_owner(found) and not found.st_mode & _OTHERS_WRITE
        for found in (path.stat(), path.parent.stat())
    )
