"""A private request is of a type that the cloud source does not accept."""

import ast
import socket
from collections.abc import Iterator
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import cast

import pytest

import edgewise
from edgewise import LatencyLog, Mode, PrivacyError, Source
from edgewise.cloud.source import CloudSource
from edgewise.generation.attempt import StopSignal
from edgewise.generation.request import (
    AllowCloudRequest,
    CloudTokenRequest,
    PrivateRequest,
    Request,
)
from edgewise_edge import SamplingParams, TokenRequest
from tests.router.routers import scripted_router


def new_request(kind: type[Request], mode: Mode = Mode.PREFER_IN_CLOUD) -> Request:
    return kind(prompt_ids=(1, 2, 3), max_tokens=4, sampling=SamplingParams(), mode=mode)


PRIVATE = new_request(PrivateRequest)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A socket at the cloud's address, which sees any connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server


@pytest.fixture
def cloud(listener: socket.socket) -> Iterator[CloudSource]:
    address = f"127.0.0.1:{listener.getsockname()[1]}"
    source = CloudSource(address, lambda: "any vocabulary", LatencyLog())
    yield source
    source.close()


def assert_no_connection(listener: socket.socket) -> None:
    with pytest.raises(BlockingIOError):
        listener.accept()


@pytest.mark.parametrize("generated", [(), (4, 5)])
def test_cloud_source_refuses_a_private_request_before_connecting(
    cloud: CloudSource, listener: socket.socket, generated: tuple[int, ...]
) -> None:
    """Even if a cast has silenced the type checker."""
    token_request = cast("CloudTokenRequest", PRIVATE.after(generated))
    with pytest.raises(PrivacyError, match="may not leave the device"):
        cloud.open(token_request)
    assert_no_connection(listener)


def test_cloud_source_refuses_to_score_a_private_request_before_connecting(
    cloud: CloudSource, listener: socket.socket
) -> None:
    """As it refuses to continue one."""
    token_request = cast("CloudTokenRequest", PRIVATE.after(()))
    with pytest.raises(PrivacyError, match="may not leave the device"):
        cloud.score(token_request, 0, StopSignal())
    assert_no_connection(listener)


def test_private_request_makes_no_cloud_token_request() -> None:
    """Nor is there a common subclass: only an AllowCloudRequest makes one."""
    assert not isinstance(PRIVATE.after(()), CloudTokenRequest)
    assert not isinstance(PRIVATE, AllowCloudRequest)
    assert isinstance(new_request(AllowCloudRequest).after(()), CloudTokenRequest)
    assert issubclass(CloudTokenRequest, TokenRequest)


def test_private_request_cannot_be_changed_to_allow_the_cloud() -> None:
    """Its privacy is its type."""
    with pytest.raises(FrozenInstanceError):
        PRIVATE.mode = Mode.ONLY_IN_CLOUD
    with pytest.raises(TypeError):
        replace(PRIVATE, privacy="allow_cloud")
    assert isinstance(replace(PRIVATE, mode=Mode.ONLY_IN_CLOUD), PrivateRequest)


@pytest.mark.parametrize("mode", Mode)
def test_private_request_may_not_use_the_cloud_in_any_mode(
    cloud: CloudSource, listener: socket.socket, mode: Mode
) -> None:
    """Even if the router has one."""
    with scripted_router(cloud=cloud.address, latency=LatencyLog()) as router:
        assert Source.IN_CLOUD not in router.sources_for(new_request(PrivateRequest, mode))
        allowed = Source.IN_CLOUD in router.sources_for(new_request(AllowCloudRequest, mode))
        assert allowed is (mode is not Mode.ONLY_ON_DEVICE)
    assert_no_connection(listener)


def calls_in(path: Path) -> Iterator[str]:
    """The name of each function or class that a file calls."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func).rpartition(".")[2]


def test_cloud_token_requests_are_made_in_one_place() -> None:
    """By AllowCloudRequest.after, and nowhere else in the package."""
    files = Path(edgewise.__file__).parent.rglob("*.py")
    callers = [
        path.name for path in files for name in calls_in(path) if name == "CloudTokenRequest"
    ]
    assert callers == ["request.py"]
