"""The demo's cloud: `edgewise-cloud serve` on loopback, in a process of its own."""

import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

LOG_PREFIX = re.compile(r"^\S+Z [A-Z]+ ")  # time and level
LAST_LINES = 12
STOP_SECONDS = 5.0


class CloudService:
    """A context manager that starts `command` in the background and, at its end, stops it.

    `command` is that of the real service unless a test gives its own; `--port N` is appended.
    """

    def __init__(self, command: Sequence[str] = ()) -> None:
        port = _free_port()
        self.address = f"127.0.0.1:{port}"
        serve = str(Path(sys.executable).with_name("edgewise-cloud"))
        self._command = [*(command or (serve, "serve", "--slots", "1", "--grace", "1"))]
        self._command += ["--port", str(port)]

    def __enter__(self) -> Self:
        """Start it; this does not wait until it serves."""
        self._folder = tempfile.TemporaryDirectory(prefix="edgewise-demo-")
        self._log = Path(self._folder.name) / "log"
        self._started = time.monotonic()
        with self._log.open("w") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        return self

    def __exit__(self, *_: object) -> None:
        """Stop it."""
        # A second Ctrl-C must not leave it running.
        interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
        self._folder.cleanup()
        signal.signal(signal.SIGINT, interrupt)

    def kill(self) -> None:
        """End it at once, in the middle of what it does."""
        self._process.kill()
        self._process.wait()

    @property
    def age(self) -> float:
        """Seconds since its start."""
        return time.monotonic() - self._started

    @property
    def exit_status(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    @property
    def last_lines(self) -> list[str]:
        """The end of its log."""
        return self._log.read_text(errors="replace").splitlines()[-LAST_LINES:]

    @property
    def phase(self) -> str:
        """What it is doing, in its own words."""
        return LOG_PREFIX.sub("", self.last_lines[-1]).strip() if self.last_lines else ""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
