"""Memory that a token needs is kept for the next: the system maps no page anew for each."""

import resource
from itertools import pairwise

import numpy as np
import pytest

from edgewise_edge import DeviceModel
from edgewise_edge.decoding.generate import generate_tokens
from edgewise_edge.runtime.backend import SignatureShapes, Step, Tensors
from edgewise_edge.runtime.session import PREFILL_CHUNK, Runtime, Session
from edgewise_edge.runtime.signatures import DECODE, PREFILL, cache_names, new_row_names
from edgewise_edge.store.manifest import Architecture
from tests.conftest import token_request

GPT2 = Architecture(vocabulary_size=50_257, context_window=1024, layers=12, heads=12, width=768)
TOKENS = 100


class RandomBackend:
    """A backend whose steps return random logits, in a vocabulary and with rows like GPT-2's."""

    name = "a library"

    def __init__(self) -> None:
        row = (-1, GPT2.heads, GPT2.head_size)
        inputs = {"tokens": (-1,), "positions": (-1,), "mask": (-1, -1)}
        inputs |= dict.fromkeys(cache_names(GPT2), row)
        outputs = dict.fromkeys(new_row_names(GPT2), row) | {"logits": (GPT2.vocabulary_size,)}
        self.signatures = {
            DECODE: SignatureShapes(inputs, outputs),
            PREFILL: SignatureShapes(inputs | {"last": (1,)}, outputs),
        }
        random = np.random.default_rng(1)
        self._logits = random.normal(0, 4, GPT2.vocabulary_size).astype(np.float32)

    def bind(self, _signature: str, _inputs: Tensors, outputs: Tensors) -> Step:
        return lambda: np.copyto(outputs["logits"], self._logits)


@pytest.fixture(params=["as large as GPT-2's", "tales"])
def runtime(request: pytest.FixtureRequest) -> Runtime:
    """Without a library, and with LiteRT, in one thread: whose faults are counted."""
    if request.param == "tales":
        return DeviceModel.load("tales", threads=1).runtime
    return Runtime(RandomBackend(), GPT2)


@pytest.mark.parametrize("sampling", [{}, {"repetition_penalty": 1.1}, {"temperature": 0.0}])
def test_a_token_maps_no_pages_of_its_own(runtime: Runtime, sampling: dict[str, float]) -> None:
    """100 tokens take at most 100 faults, where the memory of the cache has been used before."""
    session = runtime.session()
    session.cache.rows[:] = 0
    assert sum(faults(session, sampling)) <= TOKENS


def test_pages_of_new_rows_are_mapped_several_at_a_time(runtime: Runtime) -> None:
    """Most tokens need none, though each adds a row to every array of the cache."""
    found = faults(runtime.session(), {})
    assert sum(count > 0 for count in found) <= TOKENS // 4


def faults(session: Session, sampling: dict[str, float]) -> list[int]:
    """The page faults of each of 100 tokens after some others."""
    request = token_request(list(range(100)), TOKENS + 10, **sampling)
    window = session.runtime.architecture.context_window
    tokens = generate_tokens(session, request, chunk=PREFILL_CHUNK, context_window=window)
    counts = [resource.getrusage(resource.RUSAGE_THREAD).ru_minflt for _ in tokens]
    return [after - before for before, after in pairwise(counts[9:])]
