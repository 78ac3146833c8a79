"""What delivery costs those who do not use it, or use little of it."""

import subprocess
import sys
from pathlib import Path

from edgewise_edge.installed.store import ModelStore
from tests.router.delivery.conftest import CONTENT, SHA256
from tests.support.file_server import FileServer


def run(program: str, *arguments: object) -> str:
    """What it prints, in an interpreter of its own."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_folders_need_no_extra(folder: Path) -> None:
    """Without urllib3 and tuf a folder is read; others say what to install. A router needs neither."""
    program = """
import sys
import edgewise
assert not {"tuf", "urllib3", "edgewise.delivery"} & sys.modules.keys()
sys.modules.update(urllib3=None, tuf=None)
from edgewise.delivery.catalog import open_catalog
from edgewise.delivery.fetch import open_fetcher
from edgewise_edge.installed.store import ModelStore
with open_fetcher(sys.argv[1]).open("model.tflite") as reply:
    print(sum(map(len, reply.chunks)))
for refused in (
    lambda: open_fetcher("https://host/"),
    lambda: open_catalog(sys.argv[1], store=ModelStore(), root=b"{}"),
):
    try:
        refused()
    except edgewise.ConfigurationError as error:
        print(error)
"""
    size, *errors = run(program, folder).splitlines()
    assert int(size) == len(CONTENT)
    assert ["urllib3: pip install" in errors[0], "tuf: pip install" in errors[1]] == [True, True]


def test_memory_stays_flat(folder: Path, store: ModelStore) -> None:
    """Downloading 64 MB takes as much as downloading 1 MB. The sha256 is known to be wrong."""
    with (folder / "large").open("wb") as file:
        file.truncate(64_000_000)
    program = """
import sys
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from edgewise import DownloadFailedError
from edgewise.delivery.download import download
from edgewise.delivery.fetch import open_fetcher
from edgewise_edge.installed.store import ModelStore
address, root, sha256 = sys.argv[1:]
fetcher, store = open_fetcher(address), ModelStore(Path(root))
with store.partial(sha256, 1_000_000) as partial:
    download(fetcher, "model.tflite", partial)
before = getrusage(RUSAGE_SELF).ru_maxrss
try:
    with store.partial("0" * 64, 64_000_000) as partial:
        download(fetcher, "large", partial)
except DownloadFailedError:
    print(1024 * (getrusage(RUSAGE_SELF).ru_maxrss - before))
"""
    with FileServer(folder) as server:
        grown = int(run(program, server.address, store.root, SHA256))
    assert grown < 8_000_000
