"""The fault proxy does what tests ask of it."""

import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import grpc
import pytest

from edgewise_proto import generation_pb2 as pb
from edgewise_proto import generation_pb2_grpc as pb_grpc
from tests.support.generate_requests import generation, until
from tests.support.network.fault_proxy import FaultProxy, fault_proxy
from tests.support.network.raw_http2 import connect
from tests.support.service import Running, serving

Ending = Callable[..., None]
ENDINGS = [FaultProxy.cut, FaultProxy.reset]
SHORT = 0.1  # seconds in which nothing comes


class Echo(socketserver.BaseRequestHandler):
    """Sends back what it receives."""

    def handle(self) -> None:
        while heard := self.request.recv(65536):
            self.request.sendall(heard)


@pytest.fixture
def proxy() -> Iterator[FaultProxy]:
    """A proxy in front of an echo server."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        with fault_proxy(f"127.0.0.1:{server.server_address[1]}") as proxy:
            yield proxy
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def service(exact_folder: Path) -> Iterator[Running]:
    with serving(str(exact_folder), slots=2) as running:
        yield running


def echoed(connection: socket.socket, octets: bytes = b"hello") -> bytes:
    """What comes back."""
    connection.sendall(octets)
    return heard(connection, len(octets))


def heard(connection: socket.socket, most: int) -> bytes:
    """Up to `most` bytes; fewer where the connection ends."""
    octets = b""
    while len(octets) < most and (piece := connection.recv(most - len(octets))):
        octets += piece
    return octets


def silent(connection: socket.socket) -> bool:
    """Whether nothing comes for a moment on an open connection."""
    connection.settimeout(SHORT)
    try:
        connection.recv(1)
    except TimeoutError:
        return True
    finally:
        connection.settimeout(300)
    return False


def test_without_a_fault_everything_passes_and_is_counted(proxy: FaultProxy) -> None:
    """Both ways, on each connection."""
    for count in (1, 2):
        with connect(proxy.address) as connection:
            assert echoed(connection, b"x" * 100_000) == b"x" * 100_000
            assert proxy.connections == count
    until(lambda: (proxy.bytes_to_cloud, proxy.bytes_to_device) == (200_000, 200_000))
    assert proxy.tokens_to_device == 0


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_connection_ends_at_the_given_byte(proxy: FaultProxy, ending: Ending) -> None:
    """With FIN or RST; new ones end in the same way until it is healed."""
    with connect(proxy.address) as connection:
        ending(proxy, after_bytes=3)
        connection.sendall(b"hello")
        assert heard(connection, 3) == b"hel"
        ends(connection, ending)
    try:
        with connect(proxy.address) as connection:
            ends(connection, ending)
    except ConnectionResetError:  # before connect() has returned, on a slow machine
        assert ending is FaultProxy.reset
    proxy.heal()
    with connect(proxy.address) as connection:
        assert echoed(connection) == b"hello"


def ends(connection: socket.socket, ending: Ending) -> None:
    """The connection ends next."""
    if ending is FaultProxy.reset:
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    else:
        assert connection.recv(1) == b""


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_connection_ends_at_once_though_nothing_is_sent(
    proxy: FaultProxy, ending: Ending
) -> None:
    """The fault does not wait for bytes."""
    with connect(proxy.address) as connection:
        assert echoed(connection) == b"hello"
        ending(proxy)
        ends(connection, ending)


def test_a_stalled_connection_stays_stalled(proxy: FaultProxy) -> None:
    """What was held never comes; after `heal` only others continue."""
    with connect(proxy.address) as stalled, connect(proxy.address) as other:
        assert echoed(other) == b"hello"
        proxy.stall(after_bytes=2)
        stalled.sendall(b"hello")
        assert heard(stalled, 2) == b"he"
        assert silent(stalled)
        proxy.heal()
        assert echoed(other) == b"hello"
        assert silent(stalled)


def test_a_delay_holds_bytes_back(proxy: FaultProxy) -> None:
    """For the given time; then all of them come."""
    with connect(proxy.address) as connection:
        proxy.delay(3600)
        connection.sendall(b"never")
        assert silent(connection)
    with connect(proxy.address) as connection:
        proxy.delay(2 * SHORT)
        assert echoed(connection) == b"hello"


def test_a_throttle_lets_through_a_little(proxy: FaultProxy) -> None:
    """A little at a time; after `heal`, the rest at once."""
    with connect(proxy.address) as connection:
        proxy.throttle(20)
        connection.sendall(b"x" * 10_000)
        first = connection.recv(10_000)
        assert 0 < len(first) < 1000
        proxy.heal()
        assert len(first + heard(connection, 10_000 - len(first))) == 10_000


def test_new_connections_are_refused(proxy: FaultProxy) -> None:
    """Existing ones continue; after `heal`, the address is the same."""
    address = proxy.address
    with connect(address) as present:
        assert echoed(present) == b"hello"
        proxy.refuse()
        with pytest.raises(ConnectionRefusedError):
            connect(address)
        proxy.refuse(accept=True)
        with connect(address) as connection:
            assert connection.recv(1) == b""
        assert echoed(present) == b"hello"
        proxy.heal()
        with connect(address) as connection:
            assert echoed(connection) == b"hello"
    assert proxy.address == address
    assert proxy.connections == 2


def test_a_cloud_that_is_gone_ends_the_connection(proxy: FaultProxy) -> None:
    """The proxy accepts it and ends it; a new target is used for new connections."""
    target = proxy.target
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        proxy.target = f"127.0.0.1:{unused.getsockname()[1]}"
        with connect(proxy.address) as connection:
            assert connection.recv(1) == b""
    proxy.target = target
    with connect(proxy.address) as connection:
        assert echoed(connection) == b"hello"


def test_a_response_stalls_at_the_given_token(service: Running) -> None:
    """Exactly so many tokens arrive, whatever else was sent."""
    with fault_proxy(service.address) as proxy, grpc.insecure_channel(proxy.address) as channel:
        asked = ask(channel)
        proxy.stall(after_tokens=7)
        call = asked()
        found = [token for _ in range(7) for token in next(call).token_ids]
        time.sleep(SHORT)
        call.cancel()
        assert tokens(call) == []
        assert len(found) == 7
        assert proxy.tokens_to_device == 7


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_response_ends_at_the_given_token(service: Running, ending: Ending) -> None:
    """At most so many arrive: gRPC may drop the last ones when the connection is lost."""
    with fault_proxy(service.address) as proxy, grpc.insecure_channel(proxy.address) as channel:
        asked = ask(channel)
        ending(proxy, after_tokens=7)
        assert len(tokens(asked())) <= 7
        assert proxy.tokens_to_device == 7
        until(lambda: service.held == 0)  # the cloud sees that the device is gone


def ask(channel: grpc.Channel) -> Callable[..., Iterator[pb.GenerateResponse]]:
    """A call of Generate, after GetModel."""
    stub = pb_grpc.GeneratorStub(channel)
    model = stub.GetModel(pb.GetModelRequest(), wait_for_ready=True)
    return partial(stub.Generate, generation(model.vocabulary))


def tokens(answers: Iterator[pb.GenerateResponse]) -> list[int]:
    """The tokens until the call fails, which it must."""
    found = list[int]()
    try:
        for answer in answers:
            found += answer.token_ids
    except grpc.RpcError:
        return found
    pytest.fail("the response was complete")
