"""Requests for tests, and a search for their tokens in logs, metrics and traces."""

import re
import time
from collections.abc import Callable, Sequence
from itertools import pairwise

import grpc
import pytest

from edgewise_proto import generation_pb2 as pb
from edgewise_proto import generation_pb2_grpc as pb_grpc

PROMPT = [5, 17, 100, 42]
INTERNALS = re.compile(r"/|\\|Error|Exception|Traceback|<|tensorflow|google|python", re.IGNORECASE)
LONG = 180  # new tokens: nearly the tiny model's window
CANARY = (251, 252, 253, 254, 250, 249, 248)


def ask(
    address: str,
    *,
    token_ids: Sequence[int] = CANARY,
    max_tokens: int = 8,
    **metadata: str,
) -> list[int]:
    """Send one request; all its new tokens. Raises RpcError."""
    with grpc.insecure_channel(address) as channel:
        stub = pb_grpc.GeneratorStub(channel)
        message = pb.GenerateRequest(
            token_ids=token_ids,
            prompt_tokens=len(token_ids),
            max_tokens=max_tokens,
            sampling=pb.Sampling(temperature=1, top_p=1, repetition_penalty=1, seed=11),
            vocabulary=stub.GetModel(pb.GetModelRequest()).vocabulary,
        )
        responses = stub.Generate(message, metadata=list(metadata.items()))
        return [token for response in responses for token in response.token_ids]


def generation(vocabulary: str, /, **changes: object) -> pb.GenerateRequest:
    """A greedy request for twenty tokens, with some of its fields changed."""
    fields: dict[str, object] = {
        "token_ids": PROMPT,
        "prompt_tokens": len(PROMPT),
        "max_tokens": 20,
        "sampling": pb.Sampling(temperature=0, top_p=1, repetition_penalty=1),
        "vocabulary": vocabulary,
    }
    return pb.GenerateRequest(**fields | changes)


def refusal(send: Callable[[], object]) -> tuple[grpc.StatusCode, str]:
    """The code and the text with which it is refused; the text reveals no internals."""
    with pytest.raises(grpc.RpcError) as error:
        send()
    assert error.value.details()
    assert not INTERNALS.search(error.value.details())
    return error.value.code(), error.value.details()


def received_tokens(answer: "grpc.UnaryStreamCall") -> list[int]:
    """All tokens of an answer."""
    return [token for response in answer for token in response.token_ids]


def shows(text: str, tokens: Sequence[int]) -> bool:
    """Whether any two consecutive `tokens` are in `text`, one after the other."""
    return any(
        re.search(rf"\b{first}\b\D{{1,9}}\b{second}\b", text) for first, second in pairwise(tokens)
    )


def until(found: Callable[[], object]) -> None:
    """Return once `found` is true; the test's timeout is the limit."""
    while not found():
        time.sleep(0.01)
