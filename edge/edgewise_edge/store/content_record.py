"""What is known of a file: its content, and when that was last compared."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from edgewise_edge.store.files import read_text, write_text

_MAX_BYTES = 2**12


@dataclass(frozen=True, slots=True)
class ContentRecord:
    """The file's size and sha256, and its state when they were last seen to be right.

    The state is the machine's start and what any write to the file changes: a program can set the
    time of change back, but not the inode's.
    """

    size: int
    sha256: str
    state: str

    @classmethod
    def of(cls, path: Path) -> Self:
        """The record of the file at `path` now."""
        state = state_of(path)  # first: a change after it will show
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return cls(path.stat().st_size, digest, state)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what write() has written. Raises OSError, TypeError or ValueError."""
        try:
            return cls(**json.loads(read_text(path, _MAX_BYTES)))
        except RecursionError as error:
            raise ValueError(str(error)) from error

    def write(self, path: Path) -> None:
        """Write to `path` in one step. Raises OSError."""
        write_text(path, json.dumps(asdict(self)))

    def trusts(self, file: Path) -> bool:
        """Whether nothing has touched `file` since its content was compared."""
        return self.size == file.stat().st_size and self.state == state_of(file)

    def describes(self, file: Path) -> bool:
        """Whether the content of `file` is the recorded one."""
        if file.stat().st_size != self.size:
            return False
        with file.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest() == self.sha256


def state_of(path: Path) -> str:
    """What any write to the file changes, and a start of the machine."""
    found = path.stat()
    times = f"{found.st_mtime_ns} {found.st_ctime_ns}"
    return f"{machine_start()} {found.st_dev} {found.st_ino} {times}"


def machine_start() -> str:
    """What is different after each start of the machine."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        import psutil  # takes 10 ms, which delays a cold start

        return f"{psutil.boot_time():.0f}"
