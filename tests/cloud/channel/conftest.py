"""A channel with its keys, a static server for it, and a device that follows it by TUF's client."""

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tuf.ngclient import Updater

from edgewise_cloud.channel.candidate import Candidate
from edgewise_cloud.channel.create import create_channel
from edgewise_cloud.channel.keys import KeyRing
from edgewise_cloud.channel.metadata import CONTENT
from edgewise_cloud.channel.publish import Options, add, describe_candidate
from edgewise_cloud.channel.repository import Repository
from edgewise_edge.installed.channel_index import Index, IndexedRevision
from edgewise_edge.installed.evaluation import Evaluation, Window

VOCABULARY = "5" * 64
UNTRIED = Evaluation(
    windows=(Window((1, 2), (2,)),), text_bytes=1, least_top1=0.0, most_bits_per_byte=1.0
)


@dataclass(frozen=True)
class Channel:
    """A channel's folder and keys."""

    folder: Path
    keys: Path

    @property
    def ring(self) -> KeyRing:
        return KeyRing.read([self.keys])

    def read(self) -> Repository:
        return Repository.read(self.folder)

    def add(self, revision: str, name: str = "tales") -> None:
        """A revision without files, signed."""
        repository = self.read()
        before = repository.index.models.get(name, ())
        entry = IndexedRevision(
            number=len(before) + 1,
            revision=revision,
            published="2030-01-31T12:00:00Z",
            size=1,
            memory=1,
            vocabulary=VOCABULARY,
        )
        repository.index = Index({**repository.index.models, name: (*before, entry)})
        repository.commit(repository.signers(self.ring, CONTENT))

    def publish_untried(self, folder: Path) -> None:
        """The model in `folder`, which need not run."""
        repository, candidate = self.read(), Candidate.read(folder)
        entry = describe_candidate(candidate, Options())
        add(repository, candidate, entry, UNTRIED, folder)
        repository.commit(repository.signers(self.ring, CONTENT))


@pytest.fixture
def channel(tmp_path: Path) -> Channel:
    """An empty one."""
    made = Channel(tmp_path / "channel", tmp_path / "keys")
    create_channel(made.folder, made.keys)
    return made


class _Handler(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: Any) -> None:
        """Not to standard error."""


class Device:
    """What a device sees of a channel at an address."""

    def __init__(self, address: str, folder: Path, root: bytes) -> None:
        self.address, self.folder, self.root = address, folder, root

    def updater(self) -> Updater:
        """A refreshed one; each is used once."""
        self.folder.mkdir(exist_ok=True)
        updater = Updater(
            str(self.folder),
            f"{self.address}/metadata/",
            str(self.folder),
            f"{self.address}/targets/",
            bootstrap=self.root,
        )
        updater.refresh()
        return updater

    def read(self, target: str) -> bytes:
        """A verified target."""
        updater = self.updater()
        info = updater.get_targetinfo(target)
        assert info is not None, target
        return Path(updater.download_target(info, str(self.folder / "target"))).read_bytes()

    def revisions(self, name: str = "tales") -> list[dict[str, Any]]:
        """Those in the index, oldest first."""
        models = json.loads(self.read("index.json"))["models"]
        return models.get(name, {"revisions": []})["revisions"]


NewDevice = Callable[[Channel], Device]


@pytest.fixture
def new_device(tmp_path: Path) -> Iterator[NewDevice]:
    """Serve a channel over HTTP, and set up a device with its first root."""
    servers = []

    def set_up(channel: Channel) -> Device:
        handler = partial(_Handler, directory=str(channel.folder))
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        root = (channel.folder / "metadata/1.root.json").read_bytes()
        folder = tmp_path / f"device-{len(servers)}"
        return Device(f"http://127.0.0.1:{server.server_port}", folder, root)

    yield set_up
    for server in servers:
        server.shutdown()
        server.server_close()
