"""Vocabularies as Python reads them fastest, in the user's cache folder."""

import contextlib
import hashlib
import marshal
import sys
from collections.abc import Callable
from pathlib import Path

from edgewise_edge.store.cache_folder import cache_folder
from edgewise_edge.store.files import is_ours, write_bytes

_FORMAT = 1  # of what is kept: a change of the tokenizer's checks or fingerprint needs another
_DIGEST = 32  # bytes at the start of a file: the sha256 of the others

Vocabulary = tuple[dict[bytes, int], dict[str, int], str]  # ranks, special tokens, fingerprint


def kept(digests: tuple[str, ...], fingerprint: str, read: Callable[[], Vocabulary]) -> Vocabulary:
    """What `read` returns for files with these sha256; kept in a file, so that it is called once.

    It is kept only if it has that fingerprint.

    GPT-2's takes a sixth of the time then. As with prepared weights, a file is used if this user or
    root owns it, and if it holds what was written.
    """
    key = repr((digests, _FORMAT, sys.implementation.cache_tag, marshal.version))
    path = cache_folder() / "vocabularies" / hashlib.sha256(key.encode()).hexdigest()
    if found := _read(path):
        return found
    vocabulary = read()
    if vocabulary[2] != fingerprint:
        return vocabulary
    content = marshal.dumps(vocabulary)
    # If it cannot be written, it is read each time. The prepared weights tell of that.
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, hashlib.sha256(content).digest() + content)
    return vocabulary


def _read(path: Path) -> Vocabulary | None:
    with contextlib.suppress(OSError):
        if is_ours(path):
            content = path.read_bytes()
            if hashlib.sha256(content[_DIGEST:]).digest() == content[:_DIGEST]:
                found: Vocabulary = marshal.loads(content[_DIGEST:])  # noqa: S302  # we wrote it
                return found
    return None
