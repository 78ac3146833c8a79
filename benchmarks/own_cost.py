"""What our edge runtime itself costs per token, beside the library's run of the model.

That is the time of a token less the time inside the backend's step: sampling (temperature 0.8, the
likeliest 40), binding, masks, caches, and Python.
"""

import argparse
import json
import random
import time
from pathlib import Path

from edgewise_edge import DeviceModel, SamplingParams, TokenRequest
from edgewise_edge.runtime.backend import Backend, Memory, Step

PROMPT_TOKENS, NEW_TOKENS = 32, 128


class Timed:
    """A backend whose steps take down how long they took, in seconds."""

    def __init__(self, backend: Backend) -> None:
        self.name, self.signatures = backend.name, backend.signatures
        self.seconds: list[float] = []
        self._backend = backend

    def bind(self, signature: str, inputs: Memory, outputs: Memory) -> Step:
        """See Backend.bind."""
        step = self._backend.bind(signature, inputs, outputs)

        def timed() -> None:
            started = time.perf_counter()
            step()
            self.seconds.append(time.perf_counter() - started)

        return timed


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    model = DeviceModel.load(options.model, threads=options.threads, prefix_memory=0)
    token_seconds(model)  # a warm-up
    model.runtime.backend = timed = Timed(model.runtime.backend)
    token = token_seconds(model)
    steps = timed.seconds[1 - NEW_TOKENS :]  # those after the first token
    step = sum(steps) / len(steps)
    share = (token - step) / step
    print(f"{(token - step) * 1e6:.0f} us a token, {share:.1%} of a step's {step * 1e3:.2f} ms")
    print(json.dumps({"own": token - step, "step": step, "share": share}))


def token_seconds(model: DeviceModel) -> float:
    """Seconds from one new token to the next, on average."""
    ids = random.Random(1).choices(
        range(model.manifest.architecture.vocabulary_size), k=PROMPT_TOKENS
    )
    request = TokenRequest(
        token_ids=tuple(ids),
        prompt_tokens=len(ids),
        max_tokens=NEW_TOKENS,
        sampling=SamplingParams(temperature=0.8, top_k=40, seed=1),
    )
    times = [time.perf_counter() for _ in model.stream_tokens(request)]
    return (times[-1] - times[0]) / (len(times) - 1)


if __name__ == "__main__":
    main()
