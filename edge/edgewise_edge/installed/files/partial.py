"""A download that has not ended: its bytes survive the process, and the next one goes on."""

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from edgewise_edge.errors import ModelCorruptError, StoreError
from edgewise_edge.installed.files import disk
from edgewise_edge.installed.files.layout import Layout
from edgewise_edge.installed.files.lock import try_lock
from edgewise_edge.store.content_record import machine_start
from edgewise_edge.store.files import read_text

_FLUSH_EVERY = 2**24  # bytes, which a power cut may cost
_MAX_JOURNAL = 2**16  # bytes
_PIECE = 2**22  # bytes that are copied at a time
_MARGIN = 2**22  # bytes that must stay free besides


class Partial:
    """The first bytes of the file `sha256` of `total` bytes; a context manager.

    Only one process may have it open. `journal` holds what the downloader has noted, such as the
    validator of the file that these bytes are of.
    """

    def __init__(self, layout: Layout, sha256: str, total: int) -> None:
        self._layout, self.sha256, self.total = layout, sha256, total
        self.path = layout.partial(sha256)
        self._journal_path = self.path.with_suffix(".json")
        self._descriptor = -1
        self._flushed = 0
        self.size = 0  # bytes that are there
        self.journal: Mapping[str, str] = {}

    def __enter__(self) -> Self:
        """Open."""
        return self.open()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()

    def open(self) -> Self:
        """Go on from the bytes that are there. Raises StoreError when another process has it open."""
        with disk.failures(self._layout.root, self.total):
            disk.make_folder(self._layout.root)
            self._layout.require_ours()
            disk.make_folder(self._layout.partials)
            self.lock()
            try:
                self._resume()
                needed = self.total - self.size + _MARGIN
                with disk.failures(self._layout.root, needed):
                    disk.require_space(self.path.parent, needed)
            except BaseException:
                self.close()
                raise
        return self

    def lock(self) -> None:
        """Keep others from opening it. Raises StoreError when another process has it open."""
        self._descriptor = self._locked()

    def append(self, content: bytes) -> None:
        """Add bytes. Raises ModelCorruptError for more than `total`, StoreError on a full disk."""
        if self.size + len(content) > self.total:
            raise ModelCorruptError(
                f"more bytes came than the {self.total:,} that the file {self.sha256[:12]} has"
            )
        with disk.failures(self._layout.root, self.total - self.size):
            try:
                disk.write_all(self._descriptor, content)
            except BaseException:  # some of it may be there
                self._truncate(self.size)
                raise
            self.size += len(content)
            if self.size - self._flushed >= _FLUSH_EVERY:
                self.flush()

    def flush(self) -> None:
        """Have the bytes survive a power cut."""
        with disk.failures(self._layout.root):
            os.fsync(self._descriptor)
            self._flushed = self.size
            self._write_journal()

    def note(self, journal: Mapping[str, str]) -> None:
        """Keep `journal` with the bytes, in place of what was noted before."""
        self.journal = dict(journal)
        with disk.failures(self._layout.root):
            self._write_journal()

    def reset(self) -> None:
        """Start over: these bytes are of another file."""
        with disk.failures(self._layout.root):
            self._truncate(0)
            self.note({})

    def copy(self, source: Path) -> Path:
        """Take the bytes of the file at `source`, in place of those that are here, and finish()."""
        self.reset()
        with disk.failures(self._layout.root, self.total), source.open("rb") as file:
            while piece := file.read(_PIECE):
                self.append(piece)
        return self.finish()

    def finish(self) -> Path:
        """Verify the sha256, and make it a blob of the store, which is returned; closed then.

        Raises ModelCorruptError, and then all bytes are dropped unless some were still missing.
        """
        if self.size != self.total:
            raise ModelCorruptError(
                f"{self.size:,} of the {self.total:,} bytes of the file {self.sha256[:12]} are there"
            )
        blob = self._layout.blob(self.sha256)
        with disk.failures(self._layout.root):
            os.fsync(self._descriptor)
            if self._digest() != self.sha256:
                self.reset()
                raise ModelCorruptError(
                    f"what was downloaded is not the file {self.sha256[:12]} (sha256 differs); it "
                    "was dropped, and the next try starts over"
                )
            disk.make_folder(blob.parent)
            os.fchmod(self._descriptor, 0o400)  # model folders share it
            disk.move(self.path, blob)
            disk.remove_file(self._journal_path)
        self.close()
        return blob

    def discard(self) -> int:
        """Remove it; the bytes that are free now. Closed then."""
        with disk.failures(self._layout.root):
            freed = disk.remove_file(self._journal_path) + disk.remove_file(self.path)
        self.close()
        return freed

    def close(self) -> None:
        """Let others open it."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _locked(self) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
        while True:
            descriptor = os.open(self.path, flags, 0o600)
            if not try_lock(descriptor):
                os.close(descriptor)
                raise StoreError(
                    f"the file {self.sha256[:12]} is being downloaded by process "
                    f"{self._read_journal().get('pid', 'unknown')}; wait until it is done"
                )
            with suppress(FileNotFoundError):
                # Else its holder has just made it a blob, or removed it.
                if os.path.samestat(os.fstat(descriptor), self.path.stat()):
                    return descriptor
            os.close(descriptor)

    def _resume(self) -> None:
        journal = self._read_journal()
        notes, flushed = journal.get("notes"), journal.get("flushed")
        notes = notes if isinstance(notes, dict) else {}
        self.journal = {k: v for k, v in notes.items() if isinstance(v, str)}
        self.size = os.fstat(self._descriptor).st_size
        if self.size > self.total:
            self._truncate(0)
        elif journal.get("boot") != machine_start():
            # The machine has stopped since: what was not flushed may be zeros.
            self._truncate(min(self.size, max(0, flushed)) if isinstance(flushed, int) else 0)
        self._flushed = self.size
        os.fsync(self._descriptor)
        self._write_journal()

    def _truncate(self, size: int) -> None:
        os.ftruncate(self._descriptor, size)
        self.size = size
        self._flushed = min(self._flushed, size)

    def _digest(self) -> str:
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def _read_journal(self) -> dict[str, object]:
        with suppress(OSError, ValueError, RecursionError):
            raw = json.loads(read_text(self._journal_path, _MAX_JOURNAL))
            return raw if isinstance(raw, dict) else {}
        return {}

    def _write_journal(self) -> None:
        journal = {
            "pid": os.getpid(),
            "boot": machine_start(),
            "flushed": self._flushed,
            "notes": dict(self.journal),
        }
        disk.write(self._journal_path, json.dumps(journal).encode())
