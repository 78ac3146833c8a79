"""The name by which a caller's requests are counted."""

from pathlib import Path

import grpc
import pytest

from edgewise_cloud.serving.security.settings import Security
from edgewise_proto import generation_pb2 as pb
from edgewise_proto import generation_pb2_grpc as pb_grpc
from tests.support.certificates import Authority, Pair, tls_channel
from tests.support.credentials import Headers, bearer
from tests.support.generate_requests import generation, until
from tests.support.network.raw_http2 import Http2, call, messages
from tests.support.service import Running, serving


def caller_name(running: Running, channel: grpc.Channel, headers: Headers | None = None) -> str:
    """The name under which a call is observed."""
    with pytest.raises(grpc.RpcError):
        list(pb_grpc.GeneratorStub(channel).Generate(pb.GenerateRequest(), metadata=headers))
    until(lambda: running.outcomes)
    return running.outcomes[-1].caller.name


def test_a_caller_is_named_by_its_token(
    guarded: Running, channel: grpc.Channel, token: str
) -> None:
    """By the name in the token file."""
    assert caller_name(guarded, channel, bearer(token)) == "phone-1"


def test_or_by_its_certificate(authority: Authority, pair: Pair) -> None:
    """By its common name."""
    security = Security(certificate=pair.certificate, key=pair.key, client_ca=authority.file)
    with (
        serving("tales", load=False, security=security) as running,
        tls_channel(running.address, authority, authority.issue("tablet")) as channel,
    ):
        assert caller_name(running, channel) == "tablet"


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_or_by_its_address(host: str) -> None:
    """Without the port."""
    with serving("tales", load=False, host=host) as running:
        port = running.address.rpartition(":")[2]
        address = f"[{host}]:{port}" if ":" in host else running.address
        with grpc.insecure_channel(address) as channel:
            assert caller_name(running, channel) == host


def test_one_caller_cannot_take_every_slot(exact_folder: Path, vocabulary: str) -> None:
    """Beyond its share it is refused, with RetryInfo, while another address is served."""
    request = generation(vocabulary)
    with (
        serving(str(exact_folder), per_caller=1) as running,
        grpc.insecure_channel(running.address) as channel,
    ):
        stub = pb_grpc.GeneratorStub(channel)
        with running.on_engine.gated() as gate:
            gate.close()
            first = stub.Generate(request)
            until(lambda: running.held)
            with pytest.raises(grpc.RpcError) as error:
                list(stub.Generate(request))
            assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert "share" in error.value.details()
            assert "grpc-status-details-bin" in dict(error.value.trailing_metadata())
            gate.open()
            with Http2(running.address, source="127.0.0.2") as other:
                other.send(call(1, request.SerializeToString()))
                frames = other.answer(1)
            first.cancel()
    assert len(messages(frames)) == 21
    assert b"grpc-status\x010" in frames[-1].payload
