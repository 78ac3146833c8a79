"""The command `edgewise` in forks of a process that has imported it already, which takes most of its time.

What depends on how Python starts needs a process of its own: streams that are closed, and variables
that are read then.

    python -m tests.support.forked_command SOCKET

is that process.
"""

import gc
import json
import os
import socket
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Self

ROOT = Path(__file__).parents[2]
IMPORTED_LATE = ("psutil", "pydantic.type_adapter", "pydantic.types", "rich.status", "rich.spinner")


class ForkedCommand:
    """Runs command lines, one at a time."""

    def __enter__(self) -> Self:
        """Start the process."""
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            number = theirs.fileno()
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(number)], pass_fds=[number], cwd=ROOT
            )
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        """End it."""
        self._socket.close()
        self._process.wait()

    def run(self, *arguments: str, stdin: int, stdout: int, stderr: int) -> int:
        """The exit status of a command line with these file descriptors."""
        request = json.dumps({"arguments": arguments, "environment": dict(os.environ)})
        socket.send_fds(self._socket, [request.encode()], [stdin, stdout, stderr])
        return int(self._socket.recv(100))


def main(number: int) -> None:
    """Fork for each request; a fork returns to where it runs the command, and ends as Python does."""
    with socket.socket(fileno=number) as requests:
        while received := socket.recv_fds(requests, 2**20, 3):
            message, files, *_ = received
            if not message:
                sys.exit()
            if (fork := os.fork()) == 0:
                break
            for file in files:
                os.close(file)
            requests.send(str(os.waitstatus_to_exitcode(os.waitpid(fork, 0)[1])).encode())
    for stream, file in enumerate(files):
        os.dup2(file, stream)
        os.close(file)
    request = json.loads(message)
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = ["edgewise", *request["arguments"]]
    sys.stdin, sys.stdout = open(0), open(1, "w")  # noqa: SIM115
    sys.stderr = open(2, "w", errors="backslashreplace")  # noqa: SIM115


if __name__ == "__main__":
    for name in ("edgewise.cli", *IMPORTED_LATE):
        import_module(name)
    gc.freeze()  # so that a fork need not walk, and copy, what was imported
    main(int(sys.argv[1]))
    from edgewise_command import main as command

    command()
