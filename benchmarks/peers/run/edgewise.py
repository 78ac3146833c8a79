"""Our own edge runtime. Prompts are random, so the prefix cache never helps."""

from pathlib import Path

from benchmarks.peers.run import Generate, Known
from benchmarks.tokens import request
from edgewise_edge import DeviceModel


def load(model: Path, threads: int) -> Generate:
    """A folder of make/edgewise.py."""
    device = DeviceModel.load(model, threads=threads)

    def generate(prompt: list[int], new_tokens: int, known: Known) -> None:
        for token in device.stream_tokens(request(prompt, new_tokens)):
            known(token)

    return generate
