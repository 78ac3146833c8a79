"""Requests with values out of bounds, and messages that cannot be parsed."""

import grpc
import pytest

from edgewise_proto import generation_pb2 as pb
from edgewise_proto import generation_pb2_grpc as pb_grpc
from tests.support.generate_requests import generation, received_tokens, refusal
from tests.support.network.raw_http2 import GENERATE

INVALID, EXHAUSTED = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED


def sampling(**changes: object) -> dict[str, pb.Sampling]:
    return {
        "sampling": pb.Sampling(**{"temperature": 1, "top_p": 1, "repetition_penalty": 1} | changes)
    }


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"token_ids": [1, 2, 3, 2**31]}, INVALID, "not in the vocabulary"),
        ({"token_ids": [1, 2, 3, 2**32 - 1]}, INVALID, "not in the vocabulary"),
        ({"token_ids": [7] * 200, "prompt_tokens": 200}, INVALID, "context window"),
        ({"token_ids": [7] * 100_000, "prompt_tokens": 100_000}, INVALID, "context window"),
        ({"prompt_tokens": 2**32 - 1}, INVALID, "prompt_tokens"),
        ({"max_tokens": 2**32 - 1}, INVALID, "context window"),
        ({"end_token_ids": [2**32 - 1]}, INVALID, "end token"),
        ({"token_ids": [1] * 10_000_000}, EXHAUSTED, "larger"),
        ({"vocabulary": "f" * 100_000}, grpc.StatusCode.FAILED_PRECONDITION, "vocabulary"),
        ({"vocabulary": "f" * 10_000_000}, EXHAUSTED, "larger"),
        (sampling(temperature=float("inf")), INVALID, "temperature"),
        (sampling(temperature=-5e-324), INVALID, "temperature"),
        (sampling(top_p=float("-inf")), INVALID, "top_p"),
        (sampling(top_p=0), INVALID, "top_p"),
        (sampling(repetition_penalty=1e308), INVALID, "repetition_penalty"),
        (sampling(repetition_penalty=float("nan")), INVALID, "repetition_penalty"),
        (sampling(top_k=2**32 - 1), INVALID, "top_k"),
        (sampling(seed=2**64 - 1), INVALID, "seed"),
        (sampling(presence_penalty=2.1), INVALID, "presence_penalty"),
        (sampling(frequency_penalty=float("nan")), INVALID, "frequency_penalty"),
        (sampling(min_p=1.5), INVALID, "min_p"),
        (sampling(logit_bias={1: 101}), INVALID, "logit_bias"),
        (sampling(logit_bias={2**32 - 1: 1}), INVALID, "logit_bias"),
        (sampling(logit_bias=dict.fromkeys(range(1025), 1)), INVALID, "logit_bias"),
        ({"logprobs": 21}, INVALID, "logprobs"),
    ],
)
def test_numbers_out_of_bounds_are_refused(
    stub: pb_grpc.GeneratorStub,
    vocabulary: str,
    changes: dict[str, object],
    code: grpc.StatusCode,
    words: str,
) -> None:
    """With a sentence that names the field, or the limit."""
    refused = refusal(lambda: list(stub.Generate(generation(vocabulary, **changes))))
    assert refused[0] is code
    assert words in refused[1]


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        (sampling(temperature=-0.0), True),
        (sampling(temperature=5e-324), True),
        (sampling(temperature=1, top_p=5e-324), True),
        (sampling(temperature=100, repetition_penalty=100), False),
        (sampling(temperature=0, top_k=2**31 - 1, seed=2**63 - 1), True),
        ({"end_token_ids": [0] * 100_000}, True),
    ],
)
def test_numbers_at_their_bounds_are_served(
    stub: pb_grpc.GeneratorStub,
    vocabulary: str,
    expected: list[int],
    changes: dict[str, object],
    same: bool,
) -> None:
    """Extreme settings that amount to greedy sampling give the greedy tokens."""
    answer = received_tokens(stub.Generate(generation(vocabulary, **changes)))
    assert len(answer) == 20
    assert (answer == expected[:20]) is same


def varint(number: int) -> bytes:
    return bytes([number]) if number < 128 else bytes([number % 128 | 128]) + varint(number // 128)


def test_unknown_fields_are_ignored(
    channel: grpc.Channel, vocabulary: str, expected: list[int]
) -> None:
    """As Protocol Buffers require, so that newer clients are served."""
    request = generation(vocabulary).SerializeToString()
    unknown = (
        varint(99 << 3 | 2) + varint(5) + b"later" + varint(2**29 - 1 << 3) + varint(2**64 - 1)
    )
    generate = channel.unary_stream(GENERATE, response_deserializer=pb.GenerateResponse.FromString)
    assert received_tokens(generate(unknown + request + unknown)) == expected[:20]


@pytest.mark.parametrize(
    ("method", "raw", "code"),
    [
        (GENERATE, b"\x0a\xff\x01", INVALID),  # shorter than its length
        (GENERATE, b"\x08" + b"\xff" * 11, INVALID),  # a varint of 77 bits
        (GENERATE, varint(1 << 3) + varint(2**64 - 1), grpc.StatusCode.FAILED_PRECONDITION),
        (GENERATE, bytes(range(256)) * 100, INVALID),
        (GENERATE, b"\x0b" * 100_000, INVALID),  # nested groups
        (GENERATE, b"", grpc.StatusCode.FAILED_PRECONDITION),
        # A message of another type, which parses.
        (GENERATE, b"\x0a\x01x\x12\x01y", grpc.StatusCode.FAILED_PRECONDITION),
        ("/grpc.health.v1.Health/Check", b"\x0a\xff\x01", INVALID),
        ("/grpc.health.v1.Health/Watch", b"\x0a\xff\x01", INVALID),
        ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", b"\x0a\xff", INVALID),
        ("/edgewise.v1.Generator/None", b"", grpc.StatusCode.UNIMPLEMENTED),
        ("/" + "x" * 4000, b"", grpc.StatusCode.UNIMPLEMENTED),
    ],
)
def test_malformed_messages_and_unknown_methods(
    channel: grpc.Channel, method: str, raw: bytes, code: grpc.StatusCode
) -> None:
    """They get a code that blames the caller, not UNKNOWN."""
    assert refusal(lambda: list(channel.unary_stream(method)(raw)))[0] is code
