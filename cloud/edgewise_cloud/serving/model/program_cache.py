"""Compiled programs, kept in the user's cache folder from one start to the next.

What is loaded from there runs as code. So only files of this user's or root's count, each holds in
its name the sha256 of what it must contain, and libraries never see the folder: they get a private
one with links to the files that are as they should be. New files are published from it, each in one
step; so any number of processes may start at once.
"""

import atexit
import contextlib
import functools
import hashlib
import os
import shutil
import sys
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from edgewise_edge.store.cache_folder import cache_folder, report_unusable
from edgewise_edge.store.files import is_ours, is_owner
from edgewise_edge.store.weight_cache import processor_features

MAX_SIZE = 2**30  # bytes; GPT-2 small's programs take a tenth
_PRIVATE, _NEW = ".private-", 60.0  # seconds until a private folder is surely held by its process
_BACKENDS = ("tensorflow", "keras", "jax", "jaxlib")
_SETTINGS = ("TF_NUM_INTRAOP_THREADS", "TF_XLA_FLAGS", "XLA_FLAGS")  # which change what is compiled

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_current: "ProgramCache | None" = None


def current() -> "ProgramCache | None":
    """This process's cache; None unless `use_program_cache` was called."""
    return _current


def compiling() -> contextlib.AbstractContextManager[None]:
    """`ProgramCache.compiling` of this process's cache, if it has one."""
    return _current.compiling() if _current else contextlib.nullcontext()


def use_program_cache() -> None:
    """Let this process's backend keep what it compiles. Does nothing once the backend is imported.

    If the folder cannot be used, every start compiles, and one warning is logged.
    """
    global _current  # noqa: PLW0603  # as TensorFlow's flags, one for the process
    if _current or {"tensorflow", "jax"} & sys.modules.keys():
        return
    folder = cache_folder() / "programs"
    try:
        _current = ProgramCache(folder, platform_key())
    except OSError as error:
        report_unusable(folder, error)
        return
    atexit.register(_current.close)
    _set_flags(_current.private)


class ProgramCache:
    """The files in `folder` that begin with `key`, linked into the folder `private`.

    Raises OSError for a folder that cannot be written to, or that others can write to.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self._folder, self._key = folder, key
        self._lock, self._running = threading.Lock(), 0
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        if not is_owner(found) or found.st_mode & 0o022:
            raise PermissionError(0, "others can write to it")
        _remove_unused(folder)
        self.private = folder / f"{_PRIVATE}{uuid.uuid4().hex}"
        self.private.mkdir(mode=0o700)
        self._release = _hold(self, self.private)
        self._known = {name for path in folder.iterdir() if (name := self._link(path))}

    def read(self, name: str) -> bytes | None:
        """What `keep` was given under this name, by this process or an earlier one."""
        with contextlib.suppress(OSError):
            return (self.private / name).read_bytes()
        return None

    def keep(self, name: str, content: bytes) -> None:
        """Keep `content` under this name, which `compiling` publishes."""
        with contextlib.suppress(OSError):  # a full disk
            partial = self._folder / f".{uuid.uuid4().hex}"
            partial.write_bytes(content)
            partial.replace(self.private / name)

    @contextlib.contextmanager
    def compiling(self) -> Iterator[None]:
        """Around what compiles. What is new afterwards is published, by the last of several threads.

        If it fails, a kept file may be the reason: all that this process found are removed.
        """
        with self._lock:
            self._running += 1
        try:
            yield
        except BaseException:
            self.discard()
            # Nor is anything published that was made meanwhile.
            self._known.update(path.name for path in self.private.iterdir())
            raise
        finally:
            with self._lock:
                self._running -= 1
                if not self._running:  # else files may be half written
                    self._publish()

    def discard(self) -> None:
        """Remove all files that begin with the key."""
        for path in self._folder.glob(f"{self._key}-*"):
            path.unlink(missing_ok=True)

    def _publish(self) -> None:
        """Make new files in the private folder available to later starts."""
        try:
            for path in self.private.iterdir():
                if path.name not in self._known and path.is_file():
                    self._known.add(path.name)
                    shared = f"{self._key}-{path.name}.{_sha256(path)}"
                    with contextlib.suppress(FileExistsError):  # by another process, meanwhile
                        os.link(path, self._folder / shared)
        except OSError as error:
            report_unusable(self._folder, error)

    def close(self) -> None:
        """Remove the private folder."""
        shutil.rmtree(self.private, ignore_errors=True)
        self._release()

    def _link(self, path: Path) -> str | None:
        """The name in the private folder of a file that is to be trusted."""
        key, _, rest = path.name.partition("-")
        name, _, digest = rest.rpartition(".")
        if key != self._key or not name or not is_ours(path):
            return None
        with contextlib.suppress(
            OSError
        ):  # removed by another process; root's, where links need more
            if _sha256(path) == digest:
                os.link(path, self.private / name)
                os.utime(path)  # the time of last use
                return name
            path.unlink(missing_ok=True)
        return None


@functools.cache
def platform_key() -> str:
    """What compiled programs depend on, besides what they compute and on which shapes."""
    sources = sorted(Path(__file__).parent.glob("*.py"))
    parts = [
        *(f"{name} {_version(name)}" for name in _BACKENDS),
        *(path.read_text(encoding="utf-8") for path in sources),
        processor_features(),
        str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        *(os.environ.get(name, "") for name in _SETTINGS),
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _set_flags(folder: Path) -> None:
    """Both backends read these when they compile first."""
    flags = f"--tf_xla_persistent_cache_directory={folder}"
    os.environ["TF_XLA_FLAGS"] = " ".join(filter(None, (os.environ.get("TF_XLA_FLAGS"), flags)))
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder)
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"


def _remove_unused(folder: Path) -> None:
    """Remove what goes beyond the size, least recently used first, and what killed processes left."""
    left, now = MAX_SIZE, time.time()
    found = list[tuple[Path, os.stat_result]]()
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # removed by another process
            found.append((path, path.lstat()))
    for path, status in sorted(found, key=lambda each: -each[1].st_mtime):
        if path.name.startswith(_PRIVATE):
            if _is_abandoned(path, now - status.st_mtime):
                shutil.rmtree(path, ignore_errors=True)
            continue
        left -= status.st_size
        if left < 0:
            path.unlink(missing_ok=True)


def _hold(owner: object, private: Path) -> Callable[[], object]:
    """Keep other processes from removing the folder, while `owner` is there; what ends that."""
    if fcntl is None:
        return lambda: None
    held = os.open(private, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    return weakref.finalize(owner, os.close, held)


def _is_abandoned(private: Path, age: float) -> bool:
    """Whether the process whose folder this is has ended; where that cannot be told, after a day."""
    if fcntl is None:
        return age > 24 * 3600.0
    with contextlib.suppress(OSError):  # it is held, or gone
        descriptor = os.open(private, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return age > _NEW
        finally:
            os.close(descriptor)
    return False


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
