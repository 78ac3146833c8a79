"""Our own edge runtime. Prompts are random, so the prefix cache never helps."""

from pathlib import Path

from benchmarks.peers.run import Generate
from benchmarks.tokens import request
from edgewise_edge import DeviceModel


def load(model: Path, threads: int) -> Generate:
    """A folder of make/edgewise.py."""
    device = DeviceModel.load(model, threads=threads)
    return lambda prompt, new_tokens: device.stream_tokens(request(prompt, new_tokens))
