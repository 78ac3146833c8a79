"""Files: reading a small one, whatever lies at its path, and whose a file is."""

import os
import stat
from pathlib import Path


def read_text(path: Path, limit: int) -> str:
    """The UTF-8 text of the regular file at `path`, which has at most `limit` bytes.

    Raises OSError or ValueError, and never waits: a FIFO has no end, and a device may have none.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    with os.fdopen(os.open(path, flags), "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise ValueError(f"{path.name} is not a regular file")
        # Not up to `limit` at once, for which Python would take as much memory.
        content = b"" if found.st_size > limit else file.read(found.st_size + 1)
    if max(found.st_size, len(content)) > limit:
        raise ValueError(f"{path.name} has more than {limit:,} bytes")
    return content.decode("utf-8")


def is_ours(path: Path) -> bool:
    """Whether a regular file, and no link to one, lies at `path` that this user or root owns."""
    try:
        found = path.lstat()
    except OSError:
        return False
    owners = {os.geteuid(), 0} if hasattr(os, "geteuid") else {found.st_uid}
    return stat.S_ISREG(found.st_mode) and found.st_uid in owners
