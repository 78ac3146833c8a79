"""Sends private prompts in a network whose frames are all captured; test_on_the_wire.py runs it.

    python -m tests.end_to_end.privacy.ask_in_network FOLDER SCRATCH

FOLDER holds a model, SCRATCH is an empty folder. Prints the results as one line of JSON.
"""

import io
import json
import socket
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, redirect_stderr, redirect_stdout, suppress
from itertools import product
from pathlib import Path
from select import select

from edgewise import CloudSecurity, CloudTimeouts, LatencyLog, NoSourceError, Router
from edgewise.cli import app
from edgewise_edge import DeviceModel
from tests.end_to_end.privacy.scenarios import FINE, TO_THE_END, TROUBLES, WAYS, Trouble
from tests.support.scripted_cloud import scripted, tokens

# Clouds that never answer, each with bytes that identify its frames: the name that is looked up, or
# the address.
UNREACHABLE = {
    "cloud.example:50051": b"\5cloud\7example\0",
    "203.0.113.7:50051": socket.inet_aton("203.0.113.7"),
    "[2001:db8:1::7]:50051": socket.inet_pton(socket.AF_INET6, "2001:db8:1::7"),
}
LOOPBACK = socket.inet_aton("127.0.0.1")
QUIET = 2.5  # seconds without a frame: longer than any retry takes
PROMPT = "the water in the winter "
INSECURE = CloudSecurity(insecure=True)  # the worst case: no setting keeps a prompt here
ALLOWED = {"max_tokens": 1, "mode": "only_in_cloud", "privacy": "allow_cloud"}
ALL_PROTOCOLS = 3  # ETH_P_ALL of linux/if_ether.h


class Capture:
    """Every frame that any interface of this network sends or receives, loopback included."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ALL_PROTOCOLS))
        self._socket.setblocking(False)

    def frames(self) -> list[bytes]:
        """Those since the last call."""
        frames = []
        with suppress(BlockingIOError):
            while True:
                frames.append(self._socket.recv(2**16))
        return frames

    def until_quiet(self) -> list[bytes]:
        """As `frames`, once none has come for a while."""
        frames = self.frames()
        while select([self._socket], [], [], QUIET)[0]:
            frames += self.frames()
        return frames


def routers_for(
    folder: Path, scratch: Path, clouds: Iterable[str], reachable: str
) -> Iterator[tuple[Trouble, Router]]:
    """A router for each trouble and cloud; those of the reachable cloud are connected to it."""
    for number, (trouble, cloud) in enumerate(product(TROUBLES, clouds)):
        copy = scratch / str(number)
        router = trouble.router(folder, copy=copy, cloud=cloud, cloud_security=INSECURE)
        if cloud == reachable:
            with suppress(NoSourceError):
                router.generate("the", **ALLOWED)
        yield trouble, router


def ask_all(cases: list[tuple[Trouble, Router]]) -> tuple[int, list[str]]:
    """Send the prompt in every way; how often, and the unexpected results."""
    asked, unexpected = 0, []
    for (trouble, router), way in product(cases, WAYS):
        refusal = trouble.ask(router, way, PROMPT)
        if way in TO_THE_END and bool(refusal) != trouble.refused:
            unexpected.append(f"{trouble.name}: {refusal}")
        asked += 1
    return asked, unexpected


def ask_by_command(folder: Path, clouds: Iterable[str]) -> None:
    """Send it from the command line."""
    for cloud, command in product(clouds, ("generate", "route")):
        options = ["--private", "--model", str(folder), "--cloud", cloud, "--cloud-insecure"]
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            app([command, PROMPT, *options], standalone_mode=False)


def allowed(folder: Path, cloud: str, mark: bytes, capture: Capture) -> bool:
    """Whether the capture sees a request that may leave the device."""
    timeouts = CloudTimeouts(connect=0.5)
    settings = {
        "device": lambda: FINE,
        "latency": LatencyLog(),
        "cloud_timeouts": timeouts,
        "cloud_security": INSECURE,
    }
    with suppress(NoSourceError), Router(folder, cloud=cloud, **settings) as router:
        router.generate("the", **ALLOWED)
    return any(mark in frame for frame in capture.frames())


def main(folder: Path, scratch: Path) -> None:
    """Send the prompts, then check that the capture works."""
    capture = Capture()
    model = DeviceModel.load(folder)
    with scripted(model, [tokens(1, 10)] * 2) as reachable, ExitStack() as open_routers:
        port = int(reachable.rpartition(":")[2])
        marks = UNREACHABLE | {reachable: LOOPBACK + port.to_bytes(2)}  # from that port
        cases = list(routers_for(folder, scratch, marks, reachable))
        for _, router in cases:
            open_routers.enter_context(router)
        # Until gRPC has ended the work of requests that were allowed to leave.
        before = sum(marks[reachable] in frame for frame in capture.until_quiet())
        asked, unexpected = ask_all(cases)
        ask_by_command(folder, marks)
        # With what happens in the background.
        frames = [frame.hex(" ") for frame in capture.until_quiet()]
        control = {cloud: allowed(folder, cloud, mark, capture) for cloud, mark in marks.items()}
    result = {
        "asked": asked,
        "unexpected": unexpected,
        "to_reachable": before,
        "frames": frames,
        "control": control,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
