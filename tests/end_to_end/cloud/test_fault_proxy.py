"""The faults that tests ask for are those that they get."""

import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import grpc
import pytest

from edgewise_proto import generation_pb2 as pb
from edgewise_proto import generation_pb2_grpc as pb_grpc
from tests.asking import generation, until
from tests.raw_http2 import HEADERS, PREFACE, connect, data, enveloped, frame
from tests.serving import Running, serving
from tests.support.fault_proxy import FaultProxy, fault_proxy
from tests.support.token_boundaries import TokenEnds

Ending = Callable[..., None]
ENDINGS = [FaultProxy.cut, FaultProxy.reset]
SHORT = 0.1  # seconds in which nothing comes


class Echo(socketserver.BaseRequestHandler):
    """Says what it hears."""

    def handle(self) -> None:
        while heard := self.request.recv(65536):
            self.request.sendall(heard)


@pytest.fixture
def proxy() -> Iterator[FaultProxy]:
    """A proxy before an echo."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        with fault_proxy(f"127.0.0.1:{server.server_address[1]}") as proxy:
            yield proxy
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def service(exact_folder: Path) -> Iterator[Running]:
    with serving(str(exact_folder)) as running:
        yield running


def echoed(connection: socket.socket, octets: bytes = b"hello") -> bytes:
    """What comes of it."""
    connection.sendall(octets)
    return heard(connection, len(octets))


def heard(connection: socket.socket, most: int) -> bytes:
    """What comes until there are so many bytes, or no more."""
    octets = b""
    while len(octets) < most and (piece := connection.recv(most - len(octets))):
        octets += piece
    return octets


def silent(connection: socket.socket) -> bool:
    """Whether nothing comes for a moment, the connection being there."""
    connection.settimeout(SHORT)
    try:
        connection.recv(1)
    except TimeoutError:
        return True
    finally:
        connection.settimeout(30)
    return False


def test_without_a_fault_all_passes_and_is_counted(proxy: FaultProxy) -> None:
    """Both ways, on each connection."""
    for count in (1, 2):
        with connect(proxy.address) as connection:
            assert echoed(connection, b"x" * 100_000) == b"x" * 100_000
            assert proxy.connections == count
    until(lambda: (proxy.bytes_to_cloud, proxy.bytes_to_device) == (200_000, 200_000))
    assert proxy.tokens_to_device == 0


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_connection_ends_at_a_byte_and_how_it_was_told_to(
    proxy: FaultProxy, ending: Ending
) -> None:
    """What is before the byte arrives; new ones end likewise, until it is healed."""
    with connect(proxy.address) as connection:
        ending(proxy, after_bytes=3)
        connection.sendall(b"hello")
        assert heard(connection, 3) == b"hel"
        ends(connection, ending)
    with connect(proxy.address) as connection:
        ends(connection, ending)
    proxy.heal()
    with connect(proxy.address) as connection:
        assert echoed(connection) == b"hello"


def ends(connection: socket.socket, ending: Ending) -> None:
    """The next thing that is heard is the end."""
    if ending is FaultProxy.reset:
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    else:
        assert connection.recv(1) == b""


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_connection_ends_at_once_though_nobody_speaks(proxy: FaultProxy, ending: Ending) -> None:
    """The fault does not wait for bytes."""
    with connect(proxy.address) as connection:
        assert echoed(connection) == b"hello"
        ending(proxy)
        ends(connection, ending)


def test_a_stalled_connection_stays_so(proxy: FaultProxy) -> None:
    """What was to come never comes; healed, only others go on."""
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
    """For so long; they all come then."""
    with connect(proxy.address) as connection:
        proxy.delay(3600)
        connection.sendall(b"never")
        assert silent(connection)
    with connect(proxy.address) as connection:
        proxy.delay(2 * SHORT)
        connection.sendall(b"hello")
        assert silent(connection)
        assert heard(connection, 5) == b"hello"


def test_a_throttle_lets_through_a_little(proxy: FaultProxy) -> None:
    """Piece after piece; healed, the rest at once."""
    with connect(proxy.address) as connection:
        proxy.throttle(20)
        connection.sendall(b"x" * 10_000)
        assert len(connection.recv(10_000)) == 1
        proxy.heal()
        assert len(heard(connection, 9_999)) == 9_999


def test_new_connections_are_refused(proxy: FaultProxy) -> None:
    """Those there are go on; healed, the address is the same."""
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


def test_a_cloud_that_is_gone_is_seen_to_be(proxy: FaultProxy) -> None:
    """The proxy takes the connection, and ends it; another target it takes for new ones."""
    target = proxy.target
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        proxy.target = f"127.0.0.1:{unused.getsockname()[1]}"
        with connect(proxy.address) as connection:
            assert connection.recv(1) == b""
    proxy.target = target
    with connect(proxy.address) as connection:
        assert echoed(connection) == b"hello"


def test_an_answer_is_held_up_at_a_token(service: Running) -> None:
    """So many tokens arrive, whatever else was answered, and no more."""
    with fault_proxy(service.address) as proxy, grpc.insecure_channel(proxy.address) as channel:
        asked = ask(channel)
        proxy.stall(after_tokens=7)
        assert len(tokens(asked(timeout=1))) == 7
        assert proxy.tokens_to_device == 7


@pytest.mark.parametrize("ending", ENDINGS)
def test_an_answer_ends_at_a_token(service: Running, ending: Ending) -> None:
    """No more than so many arrive: gRPC may drop the last ones when the connection is lost."""
    with fault_proxy(service.address) as proxy, grpc.insecure_channel(proxy.address) as channel:
        asked = ask(channel)
        ending(proxy, after_tokens=7)
        assert len(tokens(asked())) <= 7
        assert proxy.tokens_to_device == 7
        until(lambda: service.held == 0)  # to the cloud, the device has gone


def ask(channel: grpc.Channel) -> Callable[..., Iterator[pb.GenerateResponse]]:
    """A call of Generate, the service having been asked what it serves."""
    stub = pb_grpc.GeneratorStub(channel)
    model = stub.GetModel(pb.GetModelRequest(), wait_for_ready=True)
    return partial(stub.Generate, generation(model.vocabulary))


def tokens(answers: Iterator[pb.GenerateResponse]) -> list[int]:
    """Those that come until the call fails, as it must."""
    found = list[int]()
    try:
        for answer in answers:
            found += answer.token_ids
    except grpc.RpcError:
        return found
    pytest.fail("the answer was whole")


def test_tokens_are_found_however_the_bytes_lie() -> None:
    """Many in a frame, one over two, in any pieces; answers to other questions are none."""
    asked = data(1, enveloped(b"model?")) + data(3, enveloped(b"x" * 80))
    first, second, third = (enveloped(bytes(size)) for size in (9, 300, 0))
    answered = [
        frame(HEADERS, b"x" * 20, stream=3),
        data(1, enveloped(b"x" * 100)),
        data(3, first + second[:7]),
        data(3, second[7:] + third),
    ]
    octets = b"".join(answered)
    whole = len(octets)
    expected = [whole - len(answered[3]) - 7, whole - len(third), whole]
    assert found(asked, octets, whole) == expected
    for size in (1, 2, 10, 50):
        # A token is known when its frame is whole: never before it ended, nor after the frame did.
        pairs = zip(found(asked, octets, size), expected, strict=True)
        assert all(end <= late <= whole for late, end in pairs)
    assert found(asked, octets, 1)[1:] == [whole, whole]


def found(asked: bytes, answered: bytes, size: int) -> list[int]:
    """Where tokens end, the bytes coming in pieces of that size."""
    ends = TokenEnds()
    for octet in PREFACE + asked:
        ends.to_cloud(bytes([octet]))
    return [
        start + end
        for start in range(0, len(answered), size)
        for end in ends.to_device(answered[start : start + size])
    ]
