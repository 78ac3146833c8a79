"""What our edge runtime itself costs per token, compared with the library's run of the model.

That is the time of a token less the time inside the backend's step: sampling (temperature 0.8, the
likeliest 40), binding, masks, caches, and Python.
"""

import json
import random
import time

from benchmarks.measure import arguments
from benchmarks.tokens import request, timed
from edgewise_edge import DeviceModel, SamplingParams
from edgewise_edge.runtime.backend import Backend, Step, Tensors

PROMPT_TOKENS, NEW_TOKENS = 32, 128


class TimedBackend:
    """A backend that records how long each step takes, in seconds."""

    def __init__(self, backend: Backend) -> None:
        self.name, self.signatures = backend.name, backend.signatures
        self.seconds: list[float] = []
        self._backend = backend

    def bind(self, signature: str, inputs: Tensors, outputs: Tensors) -> Step:
        step = self._backend.bind(signature, inputs, outputs)

        def recorded() -> None:
            started = time.perf_counter()
            step()
            self.seconds.append(time.perf_counter() - started)

        return recorded


def main() -> None:
    options = arguments(__doc__, "model", threads=2).parse_args()
    model = DeviceModel.load(options.model, threads=options.threads, prefix_memory=0)
    vocabulary = range(model.manifest.architecture.vocabulary_size)
    ids = random.Random(1).choices(vocabulary, k=PROMPT_TOKENS)
    asked = request(ids, NEW_TOKENS, SamplingParams(temperature=0.8, top_k=40, seed=1))
    timed(model, asked)  # a warm-up
    model.runtime.backend = backend = TimedBackend(model.runtime.backend)
    _, token = timed(model, asked)
    steps = backend.seconds[1 - NEW_TOKENS :]  # those after the first token
    step = sum(steps) / len(steps)
    share = (token - step) / step
    print(f"{(token - step) * 1e6:.0f} us a token, {share:.1%} of a step's {step * 1e3:.2f} ms")
    print(json.dumps({"own": token - step, "step": step, "share": share}))


if __name__ == "__main__":
    main()
