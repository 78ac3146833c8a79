"""Greedy generation by our own edge runtime, for comparison with its peers."""
# ruff: noqa: E402 - the clock starts before the imports

import time

STARTED = time.perf_counter()

from collections.abc import Callable
from pathlib import Path

from protocol import options, serve

from edgewise_edge import DeviceModel, SamplingParams, TokenRequest


class Edgewise:
    """A folder of make_edgewise.py. Prompts are random, so that none goes on from an earlier one."""

    def __init__(self, model: Path, threads: int) -> None:
        self.model = DeviceModel.load(model, threads=threads)

    def generate(self, prompt: list[int], new_tokens: int, known: Callable[[int], None]) -> None:
        """Write `new_tokens` tokens; see protocol.Generate."""
        request = TokenRequest(
            token_ids=tuple(prompt),
            prompt_tokens=len(prompt),
            max_tokens=new_tokens,
            sampling=SamplingParams(temperature=0),
        )
        for token in self.model.stream_tokens(request):
            known(token)


def main() -> None:
    """Load, then answer."""
    chosen = options()
    serve(Edgewise(chosen.model, chosen.threads).generate, STARTED)


if __name__ == "__main__":
    main()
