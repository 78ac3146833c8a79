"""Calls with and without credentials, and how they end."""

import grpc
import pytest

from edgewise_cloud.serving.security.tokens import REFUSAL
from edgewise_proto import generation_pb2 as pb
from edgewise_proto import generation_pb2_grpc as pb_grpc

ADMITTED = (grpc.StatusCode.UNAVAILABLE, "the model is still loading")  # no model is loaded here
REFUSED = (grpc.StatusCode.UNAUTHENTICATED, REFUSAL)

Headers = list[tuple[str, str | bytes]]


def bearer(token: str) -> Headers:
    return [("authorization", f"Bearer {token}")]


def get_model(channel: grpc.Channel, headers: Headers | None = None) -> tuple[grpc.StatusCode, str]:
    """How GetModel ends."""
    with pytest.raises(grpc.RpcError) as error:
        pb_grpc.GeneratorStub(channel).GetModel(pb.GetModelRequest(), metadata=headers)
    return error.value.code(), error.value.details()
