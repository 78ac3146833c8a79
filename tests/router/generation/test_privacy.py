"""A private request is a type that the cloud's side does not take, whoever hands it over."""

import ast
import socket
from collections.abc import Iterator
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import cast

import pytest

import edgewise
from edgewise import DeviceState, LatencyLog, Mode, PrivacyError, Router, Source
from edgewise.cloud.source import CloudSource
from edgewise.generation.request import (
    AllowCloudRequest,
    CloudTokenRequest,
    PrivateRequest,
    Request,
)
from edgewise_edge import SamplingParams, TokenRequest

MODES = list(Mode)


def request(kind: type[Request], mode: Mode = Mode.PREFER_IN_CLOUD) -> Request:
    return kind(
        prompt_ids=(1, 2, 3),
        max_tokens=4,
        sampling=SamplingParams(),
        mode=mode,
    )


PRIVATE = request(PrivateRequest)


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    """Where a cloud would be called."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server


@pytest.fixture
def cloud(listening: socket.socket) -> Iterator[CloudSource]:
    address = f"127.0.0.1:{listening.getsockname()[1]}"
    side = CloudSource(address, "any vocabulary", LatencyLog())
    yield side
    side.close()


def assert_never_called(listening: socket.socket) -> None:
    with pytest.raises(BlockingIOError):
        listening.accept()


@pytest.mark.parametrize("generated", [(), (4, 5)])
def test_the_cloud_refuses_what_is_private_before_any_call(
    cloud: CloudSource, listening: socket.socket, generated: tuple[int, ...]
) -> None:
    """Also where somebody talked the type checker into it."""
    asked = cast("CloudTokenRequest", PRIVATE.after(generated))
    with pytest.raises(PrivacyError, match="may not leave the device"):
        cloud.open(asked)
    assert_never_called(listening)


def test_what_a_private_request_asks_for_is_no_request_to_the_cloud() -> None:
    """Nor is it one by inheritance; the other way round is no harm."""
    assert not isinstance(PRIVATE.after(()), CloudTokenRequest)
    assert not isinstance(PRIVATE, AllowCloudRequest)
    assert isinstance(request(AllowCloudRequest).after(()), CloudTokenRequest)
    assert issubclass(CloudTokenRequest, TokenRequest)


def test_a_private_request_stays_one() -> None:
    """It cannot be made to allow the cloud: a request is its kind."""
    with pytest.raises(FrozenInstanceError):
        PRIVATE.mode = Mode.ONLY_IN_CLOUD
    with pytest.raises(TypeError):
        replace(PRIVATE, privacy="allow_cloud")
    assert isinstance(replace(PRIVATE, mode=Mode.ONLY_IN_CLOUD), PrivateRequest)


@pytest.mark.parametrize("mode", MODES)
def test_the_cloud_is_no_side_of_a_private_request(
    exact_folder: Path, cloud: CloudSource, listening: socket.socket, mode: Mode
) -> None:
    """In no mode, though a router has one."""
    settings = {"device": DeviceState, "latency": LatencyLog()}
    with Router(exact_folder, cloud=cloud.address, **settings) as router:
        assert Source.IN_CLOUD not in router.sources_for(request(PrivateRequest, mode))
        may = Source.IN_CLOUD in router.sources_for(request(AllowCloudRequest, mode))
        assert may is (mode is not Mode.ONLY_ON_DEVICE)
    assert_never_called(listening)


def calls(path: Path) -> Iterator[str]:
    """The names of all that is called in a file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func).rpartition(".")[2]


def test_only_a_request_that_may_leave_makes_one_to_the_cloud() -> None:
    """The one place where a CloudTokenRequest is made is AllowCloudRequest's."""
    files = Path(edgewise.__file__).parent.rglob("*.py")
    makers = [path.name for path in files for name in calls(path) if name == "CloudTokenRequest"]
    assert makers == ["request.py"]
