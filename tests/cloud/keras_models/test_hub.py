"""Converting a checkpoint from a Hugging Face hub, here a server on loopback."""

import hashlib
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from huggingface_hub import constants

from edgewise_edge import Manifest
from tests.support.command_line import RunCommand

COMMIT = "0" * 40
# The first file is asked for by branch, the others by the commit that has it.
REPOSITORY = re.compile(rf"/someone/tiny/resolve/(main|{COMMIT})/")


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
def hub(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The hub that huggingface_hub asks; it reads its environment only when it is imported."""
    handler = type("TinyHub", (Hub,), {"folder": checkpoint})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    path = constants.HUGGINGFACE_CO_URL_TEMPLATE.removeprefix(constants.ENDPOINT)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + path)
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    yield
    server.shutdown()
    server.server_close()


def test_a_checkpoint_is_fetched_from_a_hub(
    hub: None, tmp_path: Path, run_command: RunCommand
) -> None:
    """hf://USER/MODEL becomes a device model; one that is missing is an error in one line."""
    made = run_command("convert", "hf://someone/tiny", tmp_path / "tiny")
    assert made.returncode == 0, made.stderr
    assert "reading hf://someone/tiny" in made.stderr.splitlines()
    assert Manifest.read(tmp_path / "tiny").architecture.layers == 2
    missing = run_command("convert", "hf://someone/else", tmp_path / "else")
    assert missing.returncode == 2
    error = missing.stderr.splitlines()[-1]
    assert "cannot be fetched" in error
    assert "Offline" in error
    assert not (tmp_path / "else").exists()
