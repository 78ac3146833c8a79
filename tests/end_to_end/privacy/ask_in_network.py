"""Asks private prompts in a network where every frame is seen; run by test_private_on_the_wire.

    python -m tests.end_to_end.privacy.ask_in_network FOLDER SCRATCH

FOLDER holds a model, SCRATCH is an empty folder. Prints what happened as one line of JSON.
"""

import io
import json
import socket
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, redirect_stderr, redirect_stdout, suppress
from itertools import product
from pathlib import Path

from edgewise import CloudTimeouts, LatencyLog, NoSourceError, Router
from edgewise.cli.commands import app
from edgewise_edge import DeviceModel
from tests.end_to_end.privacy.scenarios import FINE, TO_THE_END, TROUBLES, WAYS, Trouble
from tests.support.scripted_cloud import scripted, tokens

# Clouds that never answer, each with what a frame on its behalf holds: the name that is looked up,
# or the address.
AWAY = {
    "cloud.example:50051": b"\5cloud\7example\0",
    "203.0.113.7:50051": socket.inet_aton("203.0.113.7"),
    "[2001:db8:1::7]:50051": socket.inet_pton(socket.AF_INET6, "2001:db8:1::7"),
}
LOOPBACK = socket.inet_aton("127.0.0.1")
ROUNDS = 2
PROMPT = "the water in the winter "
ALLOWED = {"max_tokens": 1, "mode": "only_in_cloud", "privacy": "allow_cloud"}
ALL_PROTOCOLS = 3  # ETH_P_ALL of linux/if_ether.h


class Capture:
    """Every frame that any interface of this network sends or is given, loopback included."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ALL_PROTOCOLS))
        self._socket.setblocking(False)

    def frames(self) -> list[bytes]:
        """Those that came since the last call."""
        frames = []
        with suppress(BlockingIOError):
            while True:
                frames.append(self._socket.recv(2**16))
        return frames


def routers_for(
    folder: Path, scratch: Path, clouds: Iterable[str], living: str
) -> Iterator[tuple[Trouble, Router]]:
    """A router for every trouble and cloud, those of the living cloud connected to it."""
    for number, (trouble, cloud) in enumerate(product(TROUBLES, clouds)):
        router = trouble.router(folder, copy=scratch / str(number), cloud=cloud)
        if cloud == living:
            with suppress(NoSourceError):
                router.generate("the", **ALLOWED)
        yield trouble, router


def ask_all(cases: list[tuple[Trouble, Router]]) -> tuple[int, list[str]]:
    """Ask for everything in every way; how often, and what came that should not have."""
    asked, unexpected = 0, []
    for _, (trouble, router), way in product(range(ROUNDS), cases, WAYS):
        refusal = trouble.ask(router, way, PROMPT)
        if way in TO_THE_END and bool(refusal) != trouble.refused:
            unexpected.append(f"{trouble.name}: {refusal}")
        asked += 1
    return asked, unexpected


def ask_by_command(folder: Path, clouds: Iterable[str]) -> None:
    """Ask as one does from a shell."""
    for cloud, command in product(clouds, ("generate", "route")):
        options = ["--private", "--model", str(folder), "--cloud", cloud]
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            app([command, PROMPT, *options], standalone_mode=False)


def allowed(folder: Path, cloud: str, mark: bytes, capture: Capture) -> bool:
    """Whether a request that may leave is seen to leave."""
    patience = CloudTimeouts(connect=0.5)
    settings = {"device": lambda: FINE, "latency": LatencyLog(), "cloud_timeouts": patience}
    with suppress(NoSourceError), Router(folder, cloud=cloud, **settings) as router:
        router.generate("the", **ALLOWED)
    return any(mark in frame for frame in capture.frames())


def main(folder: Path, scratch: Path) -> None:
    """Ask, then see that the capture would have seen."""
    capture = Capture()
    model = DeviceModel.load(folder)
    with scripted(model, [tokens(1, 10)] * 2) as living, ExitStack() as open_routers:
        port = int(living.rpartition(":")[2])
        marks = AWAY | {living: LOOPBACK + port.to_bytes(2)}  # to here, from that port
        cases = list(routers_for(folder, scratch, marks, living))
        for _, router in cases:
            open_routers.enter_context(router)
        time.sleep(3)  # until gRPC has ended what those did that were allowed to
        before = sum(marks[living] in frame for frame in capture.frames())
        asked, unexpected = ask_all(cases)
        ask_by_command(folder, marks)
        time.sleep(1.5)  # for what might be done in the background
        frames = [frame.hex(" ") for frame in capture.frames()]
        control = {cloud: allowed(folder, cloud, mark, capture) for cloud, mark in marks.items()}
    result = {
        "asked": asked,
        "unexpected": unexpected,
        "living": before,
        "frames": frames,
        "control": control,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
