"""A model fetched by its hub's name, from a hub on loopback."""

import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from edgewise_edge import Manifest

REPOSITORY = "/someone/tiny/resolve/main/"


class Hub(BaseHTTPRequestHandler):
    """Answers as Hugging Face's hub does for the files of one model, and 404 for the rest."""

    folder: Path

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self.wfile.write(self._answer())

    def _answer(self) -> bytes:
        path = self.folder / self.path.removeprefix(REPOSITORY)
        found = self.path.startswith(REPOSITORY) and path.is_file()
        data = path.read_bytes() if found else b""
        self.send_response(200 if found else 404)
        self.send_header("Content-Length", str(len(data)))
        if found:
            self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
            self.send_header("X-Repo-Commit", "0" * 40)
        else:
            self.send_header("X-Error-Code", "EntryNotFound")
        self.end_headers()
        return data

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def hub(checkpoint: Path) -> Iterator[str]:
    handler = type("TinyHub", (Hub,), {"folder": checkpoint})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def convert(source: str, out: Path, hub: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [Path(sys.executable).with_name("edgewise-cloud"), "convert", source, out],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"HF_ENDPOINT": hub, "HF_HOME": str(out.parent / "cache")},
    )


def test_a_model_on_a_hub_is_fetched_and_converted(hub: str, tmp_path: Path) -> None:
    """hf://USER/MODEL becomes a device model folder."""
    done = convert("hf://someone/tiny", tmp_path / "device", hub)
    assert done.returncode == 0, done.stderr
    assert Manifest.read(tmp_path / "device").architecture.layers == 2


def test_a_model_that_is_not_there_is_a_sentence(hub: str, tmp_path: Path) -> None:
    """With what to do without a hub, and no folder left behind."""
    done = convert("hf://someone/else", tmp_path / "device", hub)
    assert done.returncode == 2
    assert "cannot be fetched" in done.stderr
    assert "Offline" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "device").exists()
