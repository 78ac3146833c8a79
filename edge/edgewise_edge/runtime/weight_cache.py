"""The files in which XNNPACK's prepared weights are kept between runs.

Preparing takes most of the time that loading a model takes, and what it makes is as large as the
model. Kept in a file, it is mapped instead: loading becomes a matter of milliseconds, and all
processes that run the model share one copy of its weights.
"""

import contextlib
import errno
import hashlib
import json
import logging
import os
import platform
import shutil
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import platformdirs

from edgewise_edge.store.manifest import FileRecord

_log = logging.getLogger("edgewise_edge.weight_cache")
_SUFFIX, _PARTIAL = ".xnnpack", ".partial"
_UNUSED = 30 * 24 * 3600.0  # seconds after which another model's file is in the way


def default_folder() -> Path:
    """The user's cache folder."""
    return platformdirs.user_cache_path("edgewise") / "weights"


@dataclass(frozen=True, slots=True)
class _Record:
    """What a whole file looks like; anything that writes to it changes this."""

    size: int
    modified: int  # nanoseconds

    @classmethod
    def of(cls, path: Path) -> "_Record":
        found = path.stat()
        return cls(found.st_size, found.st_mtime_ns)


class WeightCache:
    """The file for one model on this machine, in `folder`.

    Whatever is wrong with the folder, loading goes on without it, and a warning is logged once.
    """

    def __init__(self, folder: Path, model: FileRecord) -> None:
        self.path = folder / f"{model.sha256[:16]}-{_platform()}{_SUFFIX}"
        self._record = _record_of(self.path)
        self._room = model.size * 9 // 4 + 2**20  # bytes; float16 is widened

    def whole(self) -> bool:
        """Whether the file is there as it was made."""
        try:
            known = _Record(**json.loads(self._record.read_text(encoding="utf-8")))
            if known != _Record.of(self.path):
                return False
        except (OSError, ValueError, TypeError):
            return False
        with contextlib.suppress(OSError):  # in a folder that is read-only
            os.utime(self._record)  # it is in use
        return True

    @contextlib.contextmanager
    def being_made(self) -> Iterator[Path | None]:
        """Where LiteRT may write the file; once it has, the file takes its name.

        None where the folder cannot be written to. Two processes may do this at once.
        """
        partial = self.path.with_name(f".{uuid.uuid4().hex}{_PARTIAL}")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            _require_room(partial, self._room)
        except OSError as error:
            _warn_once(self.path.parent, error)
            yield None
            return
        try:
            yield partial
            self._finish(partial)
        finally:
            with contextlib.suppress(OSError):
                partial.unlink()

    def _finish(self, partial: Path) -> None:
        if not partial.exists():
            return  # a runtime that keeps no weights
        try:
            with partial.open("rb+") as file:
                os.fsync(file.fileno())  # or a power cut may leave a whole length of zeros
            record = json.dumps(asdict(_Record.of(partial)))
            with contextlib.suppress(FileNotFoundError):
                self._record.unlink()
            partial.replace(self.path)
            self._record.write_text(record, encoding="utf-8")
            self._remove_unused()
        except OSError as error:
            _warn_once(self.path.parent, error)

    def _remove_unused(self) -> None:
        """Files of models that are not used any more, and of loads that did not end."""
        for path in self.path.parent.glob(f"*{_SUFFIX}"):
            record = _record_of(path)
            if _age(record if record.exists() else path) > _UNUSED:
                path.unlink(missing_ok=True)
                record.unlink(missing_ok=True)
        for path in self.path.parent.glob(f".*{_PARTIAL}"):
            if _age(path) > _UNUSED:
                path.unlink(missing_ok=True)


def _record_of(path: Path) -> Path:
    return path.with_suffix(".json")


def _age(path: Path) -> float:
    """Seconds since a file was last touched; none if it is gone meanwhile."""
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _require_room(path: Path, size: int) -> None:
    """Raise OSError unless a file of that size can be written: XNNPACK aborts when it cannot."""
    try:
        with path.open("xb") as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            elif shutil.disk_usage(path.parent).free < size:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    finally:
        path.unlink(missing_ok=True)


_warned: set[Path] = set()


def _warn_once(folder: Path, error: OSError) -> None:
    if folder not in _warned:
        _warned.add(folder)
        _log.warning(
            "prepared weights cannot be kept in %s (%s): loading takes longer, and processes do "
            "not share their memory",
            folder,
            error.strerror or error,
        )


def _platform() -> str:
    """What the layout of the weights depends on: LiteRT's version and this processor's kind."""
    try:
        from ai_edge_litert import __version__ as runtime
    except ImportError:
        runtime = ""
    return hashlib.sha256(f"{runtime} {platform.machine()} {_processor()}".encode()).hexdigest()[:8]


def _processor() -> str:
    """The features of the processor, where Linux tells; else its name."""
    with contextlib.suppress(OSError), Path("/proc/cpuinfo").open(encoding="utf-8") as lines:
        for line in lines:
            if line.startswith(("flags", "Features")):
                return line
    return platform.processor()
