"""A service with two slots and a queue of two for each file, and callers for it."""

import threading
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import grpc
import pytest

from edgewise_proto import generation_pb2_grpc as pb_grpc
from tests.support.gated_programs import Gate
from tests.support.generate_requests import LONG, PROMPT, generation, received_tokens, until
from tests.support.service import Running, serving

Ask = Callable[..., "grpc.UnaryStreamCall"]
TwoRunning = Callable[..., "list[grpc.UnaryStreamCall]"]

# Tokens by prompt, when nothing else runs.
_alone: dict[tuple[int, ...], list[int]] = {}


@pytest.fixture(scope="module")
def service(exact_folder: Path) -> Iterator[Running]:
    with serving(str(exact_folder), queue=2) as running:
        yield running


@pytest.fixture(scope="module")
def channel(service: Running) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(service.address) as channel:
        yield channel


@pytest.fixture(scope="module")
def stub(channel: grpc.Channel) -> pb_grpc.GeneratorStub:
    return pb_grpc.GeneratorStub(channel)


@pytest.fixture
def gate(service: Running) -> Iterator[Gate]:
    """The gate of decode steps of the service, which is idle before and after the test."""
    with service.on_engine.gated() as gate:
        yield gate


@pytest.fixture
def ask(
    service: Running, gate: Gate, stub: pb_grpc.GeneratorStub, vocabulary: str
) -> Iterator[Ask]:
    """Send a request of one token and return once the engine has it; cancelled at the end."""
    calls = []

    def send(token: int = 5, max_tokens: int = LONG, timeout: float | None = None) -> Any:
        before = service.held
        request = generation(vocabulary, token_ids=[token], prompt_tokens=1, max_tokens=max_tokens)
        calls.append(stub.Generate(request, timeout=timeout))
        until(lambda: service.held > before or calls[-1].done())  # past its deadline
        return calls[-1]

    yield send
    for call in calls:
        call.cancel()


@pytest.fixture
def two_running(ask: Ask, gate: Gate) -> TwoRunning:
    """Start two streams, of tokens 5 and 6 in slots 0 and 1, and stop them before their third step."""

    def start(max_tokens: int = LONG) -> "list[grpc.UnaryStreamCall]":
        gate.close()
        calls = [ask(token, max_tokens) for token in (5, 6)]
        gate.let_pass(2)
        for call in calls:
            next(call)
        gate.wait()
        return calls

    return start


@pytest.fixture(scope="module")
def alone(stub: pb_grpc.GeneratorStub, vocabulary: str) -> Callable[..., list[int]]:
    """The tokens that follow a prompt when nothing else runs."""

    def generated(*prompt: int, max_tokens: int = LONG) -> list[int]:
        if prompt not in _alone:
            request = generation(
                vocabulary, token_ids=prompt, prompt_tokens=len(prompt), max_tokens=max_tokens
            )
            _alone[prompt] = received_tokens(stub.Generate(request))
        return _alone[prompt]

    return generated


@pytest.fixture
def expected(alone: Callable[..., list[int]]) -> list[int]:
    """The tokens of the request that `others` send, and those that follow."""
    return alone(*PROMPT, max_tokens=100)


@pytest.fixture
def others(service: Running, vocabulary: str, expected: list[int]) -> Iterator[Callable[[], None]]:
    """Well-behaved callers of the service, one after the other, until the test ends; each gets its
    answer.

    Call it to wait until one more has been served.
    """
    over, done, failed = threading.Event(), count(1), list[object]()
    served = [0]

    def serve_one_by_one() -> None:
        while not over.is_set():
            try:
                # New connections must be accepted too.
                with grpc.insecure_channel(service.address) as channel:
                    answer = pb_grpc.GeneratorStub(channel).Generate(generation(vocabulary))
                    assert received_tokens(answer) == expected[:20]
            except Exception as error:  # noqa: BLE001
                failed.append(error)
            served[0] = next(done)

    def one_more() -> None:
        enough = served[0] + 2  # the current one may have begun before
        until(lambda: served[0] >= enough)

    thread = threading.Thread(target=serve_one_by_one)
    thread.start()
    try:
        yield one_more
        one_more()
    finally:
        over.set()
        thread.join()
    assert not failed
