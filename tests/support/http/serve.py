"""`edgewise serve` as a user starts it: a process of its own, on a free port."""

import os
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from tests.support.command_line import BIN

ADDRESS = re.compile(r"https?://127\.0\.0\.1:\d+")
PATIENCE = 60.0  # seconds: a test that hangs should say why


@contextmanager
def edgewise_serve(*options: str | Path, **environment: str) -> Iterator[str]:
    """Serve the bundled model until the block ends; yields the address that it prints."""
    command = [BIN / "edgewise", "serve", "--port", "0", *options]
    with printing_its_address(command, **environment) as address:
        yield address


@contextmanager
def printing_its_address(command: list[str | Path], **environment: str) -> Iterator[str]:
    """A command that serves until the block ends; yields the address that it prints."""
    server = subprocess.Popen(
        command,
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    killer = threading.Timer(PATIENCE, server.kill)
    killer.start()
    reader = threading.Thread(target=server.stdout.read)  # a full pipe would stop the server
    with server.stdout:
        try:
            address = _address(server.stdout)
            killer.cancel()
            reader.start()
            yield address
        finally:
            killer.cancel()
            server.terminate()
            server.wait(PATIENCE)
            if reader.ident:
                reader.join()


def _address(lines: IO[str]) -> str:
    printed = []
    for line in lines:
        printed.append(line)
        if found := ADDRESS.search(line):
            return found[0]
    raise RuntimeError(f"the server ended before it served:\n{''.join(printed)}")
