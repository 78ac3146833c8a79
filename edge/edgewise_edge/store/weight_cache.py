"""Files that keep XNNPACK's prepared weights between runs.

Preparing the weights takes most of a model's loading time, and the result is as large as the model.
Mapped from a file, it loads in milliseconds, and all processes that run the model share one copy.
"""

import contextlib
import errno
import hashlib
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path

from edgewise_edge.store.cache_folder import cache_folder, report_unusable
from edgewise_edge.store.content_record import ContentRecord
from edgewise_edge.store.files import is_ours
from edgewise_edge.store.manifest import FileRecord

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_SUFFIX, _PARTIAL, _LOADING = ".xnnpack", ".partial", ".loading"
_MAX_IDLE = 30 * 24 * 3600.0  # seconds without use, after which a file is removed


def default_folder() -> Path:
    """Of prepared weights, in the user's cache folder."""
    return cache_folder() / "weights"


class WeightCache:
    """The file for one model on this machine, in `folder`.

    If the folder cannot be used, loading continues without it, and one warning is logged.
    """

    def __init__(self, folder: Path, model: FileRecord) -> None:
        self.path = folder / f"{model.sha256[:16]}-{platform_key()}{_SUFFIX}"
        self._record = _record_of(self.path)
        self._space = model.size * 9 // 4 + 2**20  # bytes; float16 is widened

    def is_valid(self) -> bool:
        """Whether the file is this user's, holds what was written, and no load of it has crashed.

        Its sha256 is compared when it is first used after the machine has started, or after
        anything has touched it.
        """
        if not (is_ours(self.path) and is_ours(self._record)):
            return False
        try:
            if self._crashed():
                self._record.unlink()
                return False
            record = ContentRecord.read(self._record)
            if not record.trusts(self.path):
                if not record.describes(self.path):
                    return False
                with contextlib.suppress(OSError):  # a read-only folder
                    ContentRecord.of(self.path).write(self._record)
        except (OSError, ValueError, TypeError):
            return False
        with contextlib.suppress(OSError):
            os.utime(self._record)  # the time of last use
        return True

    @contextlib.contextmanager
    def loading(self) -> Iterator[None]:
        """Mark that a model is being loaded with the file: it is not valid after a crash meanwhile."""
        with _mark(self.path.with_name(f"{self.path.stem}.{os.urandom(16).hex()}{_LOADING}")):
            yield

    def _crashed(self) -> bool:
        """Whether a process ended while it loaded the file; forgotten when asked."""
        marks = list(self.path.parent.glob(f"{self.path.stem}.*{_LOADING}"))
        return sum(map(_clear_abandoned, marks)) > 0

    @contextlib.contextmanager
    def writing(self) -> Iterator[Path | None]:
        """A path for LiteRT to write to; on exit the file replaces the one at `path`.

        None if the folder cannot be written to. Several processes may write at once.
        """
        partial = self.path.with_name(f".{os.urandom(16).hex()}{_PARTIAL}")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            _require_space(partial, self._space)
        except OSError as error:
            report_unusable(self.path.parent, error)
            yield None
            return
        try:
            yield partial
            self._publish(partial)
        finally:
            with contextlib.suppress(OSError):
                partial.unlink()

    def _publish(self, partial: Path) -> None:
        if not partial.exists():
            return  # the library keeps no prepared weights
        try:
            with partial.open("rb+") as file:
                os.fsync(file.fileno())  # or a power cut could leave a file full of zeros
            with contextlib.suppress(FileNotFoundError):
                self._record.unlink()
            partial.replace(self.path)
            ContentRecord.of(self.path).write(self._record)
            self._remove_unused()
        except OSError as error:
            report_unusable(self.path.parent, error)

    def _remove_unused(self) -> None:
        """Remove files of models no longer in use, and those of interrupted loads."""
        for path in self.path.parent.glob(f"*{_SUFFIX}"):
            record = _record_of(path)
            if _idle(record if record.exists() else path) > _MAX_IDLE:
                path.unlink(missing_ok=True)
                record.unlink(missing_ok=True)
        for path in (
            *self.path.parent.glob(f".*{_PARTIAL}"),
            *self.path.parent.glob(f"*{_LOADING}"),
        ):
            if _idle(path) > _MAX_IDLE:
                path.unlink(missing_ok=True)


def _record_of(path: Path) -> Path:
    return path.with_suffix(".json")


def _idle(path: Path) -> float:
    """Seconds since a file was last touched; 0 if it has been removed."""
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _require_space(path: Path, size: int) -> None:
    """Raise OSError unless a file of that size can be written: XNNPACK would abort the process."""
    try:
        with path.open("xb") as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            elif _free(path.parent) < size:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    finally:
        path.unlink(missing_ok=True)


def _free(folder: Path) -> int:
    from shutil import disk_usage  # takes 4 ms, which delays a cold start

    return disk_usage(folder).free


@contextlib.contextmanager
def _mark(path: Path) -> Iterator[None]:
    """A file that is locked while the block runs, so that it tells whether its process has ended."""
    if fcntl is None:
        yield
        return
    try:
        file = path.open("xb")
    except OSError:  # a read-only folder
        yield
        return
    try:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()
        file.close()  # last: a file without a lock looks abandoned


def _clear_abandoned(mark: Path) -> bool:
    """Remove the mark of a process that has ended; whether it was one."""
    if fcntl is None or not is_ours(mark):
        return False
    try:
        with mark.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            mark.unlink()
    except FileNotFoundError:  # its load has just ended
        return False
    except OSError:  # it is being loaded, or the folder is read-only
        return False
    return True


def platform_key() -> str:
    """What the layout of the weights depends on: LiteRT's version and the processor."""
    try:
        from ai_edge_litert import __version__ as runtime
    except Exception:  # noqa: BLE001  # as import_library()
        runtime = ""
    key = f"{runtime} {platform.machine()} {processor_features()}"
    return hashlib.sha256(key.encode()).hexdigest()[:8]


def processor_features() -> str:
    """The processor's feature flags as Linux lists them; elsewhere its name."""
    with (
        contextlib.suppress(OSError),
        Path("/proc/cpuinfo").open(encoding="utf-8", errors="replace") as lines,
    ):
        for line in lines:
            if line.startswith(("flags", "Features")):
                return line
    return platform.processor()
