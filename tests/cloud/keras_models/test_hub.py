"""Converting a checkpoint from a Hugging Face hub, here a server on loopback."""

import hashlib
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from edgewise_edge import Manifest

COMMIT = "0" * 40
# The first file is asked for by branch, the others by the commit that has it.
REPOSITORY = re.compile(rf"/someone/tiny/resolve/(main|{COMMIT})/")
# Both conversions in one process, as each process has to start TensorFlow.
CONVERT_BOTH = """
import sys
from edgewise_cloud import cli
folder = sys.argv[1]
for name in ("tiny", "else"):
    sys.argv = ["edgewise-cloud", "convert", f"hf://someone/{name}", f"{folder}/{name}"]
    try:
        cli.main()
    except SystemExit as exited:
        print("exit status", exited.code, file=sys.stderr)
"""


class Hub(BaseHTTPRequestHandler):
    """Answers like Hugging Face's hub for the files of one model, and 404 for all others."""

    folder: Path

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self.wfile.write(self._answer())

    def _answer(self) -> bytes:
        name = REPOSITORY.match(self.path)
        path = self.folder / self.path[name.end() :] if name else self.folder
        found = path.is_file()
        data = path.read_bytes() if found else b""
        self.send_response(200 if found else 404)
        self.send_header("Content-Length", str(len(data)))
        if found:
            self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
        else:
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("X-Error-Code", "EntryNotFound")
        self.end_headers()
        return data

    def log_message(self, *_: object) -> None:
        """Do not log."""


@pytest.fixture
def hub(checkpoint: Path) -> Iterator[str]:
    handler = type("TinyHub", (Hub,), {"folder": checkpoint})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_checkpoint_is_fetched_from_a_hub(hub: str, tmp_path: Path) -> None:
    """hf://USER/MODEL becomes a device model; one that is missing is an error in one line."""
    done = subprocess.run(
        [sys.executable, "-c", CONVERT_BOTH, tmp_path],
        capture_output=True,
        text=True,
        check=True,
        # Read when huggingface_hub is imported.
        env=os.environ | {"HF_ENDPOINT": hub, "HF_HOME": str(tmp_path / "cache")},
    )
    lines = done.stderr.splitlines()
    assert "reading hf://someone/tiny" in lines
    assert "exit status 0" in lines
    *_, error, second = lines
    assert Manifest.read(tmp_path / "tiny").architecture.layers == 2
    assert second == "exit status 2"
    assert "cannot be fetched" in error
    assert "Offline" in error
    assert not (tmp_path / "else").exists()
