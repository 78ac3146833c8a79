"""A download that is killed goes on from the bytes that are there."""

import hashlib
import random
from pathlib import Path

import pytest

from edgewise_edge.installed.store import ModelStore
from tests.support.file_server import FileServer
from tests.support.killed_downloads import kill_downloads


@pytest.mark.parametrize("kills", [10, pytest.param(200, marks=pytest.mark.soak)])
def test_no_byte_is_fetched_twice_after_kills(kills: int, folder: Path, store: ModelStore) -> None:
    """Each child asks for the bytes after those that the one before it had."""
    content = random.Random(kills).randbytes(kills * 100_000 + 3_000_000)
    (folder / "model.tflite").write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    with FileServer(folder) as server:
        children = kill_downloads(
            server.address, store.root, sha256=sha256, size=len(content), kills=kills, seed=kills
        )
    asked = [
        int(request.headers.get("range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        for request in server.requests
    ]
    received = sum(end - start for start, end, _ in children)
    print(f"{kills} kills: {received:,} bytes received of a file of {len(content):,}")
    assert sum(killed for *_, killed in children) > kills // 2
    assert received <= len(content)
    assert set(asked) <= {start for start, *_ in children}
    path = store.blob(sha256)
    assert path is not None
    assert path.read_bytes() == content
