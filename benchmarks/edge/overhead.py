"""What our edge runtime itself costs per token: its time less that inside the backend's step."""

import random
import time

from benchmarks.measure import arguments, show
from benchmarks.tokens import request, timed
from edgewise_edge import DeviceModel, SamplingParams
from edgewise_edge.runtime.backend import Backend, Step, Tensors
from edgewise_edge.runtime.session import Runtime

PROMPT_TOKENS, NEW_TOKENS = 32, 128


class TimedBackend:
    """A backend that records how long each step takes, in seconds."""

    def __init__(self, backend: Backend) -> None:
        self.name, self.signatures, self._backend = backend.name, backend.signatures, backend
        self.seconds: list[float] = []

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
    backend = TimedBackend(model.runtime.backend)
    runtime = Runtime(backend, model.manifest.architecture)
    model = DeviceModel(model.manifest, model.tokenizer, runtime, 0)
    _, token = timed(model, asked)
    steps = backend.seconds[1 - NEW_TOKENS :]  # those after the first token
    step = sum(steps) / len(steps)
    show({"own": token - step, "step": step, "share": (token - step) / step})


if __name__ == "__main__":
    main()
