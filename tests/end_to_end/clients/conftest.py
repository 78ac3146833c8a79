"""One server for all clients."""

from collections.abc import Iterator

import pytest

from edgewise import Limits, Router
from edgewise.server.settings import ServerSettings
from edgewise.testing import ScriptedDevice, hangs_after
from tests.support.http.serve import edgewise_serve
from tests.support.http.server import running_server


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The address of `edgewise serve` with the bundled model."""
    with edgewise_serve() as address:
        yield address


@pytest.fixture
def busy_server() -> Iterator[str]:
    """A server that writes one text at a time and lets nobody wait; its first text hangs."""
    device = ScriptedDevice("A fox.", hangs_after(1))
    router, settings = (
        Router(device, limits=Limits(max_queue=1)),
        ServerSettings(port=0, max_waiting=0),
    )
    with router, running_server(router, settings) as serving:
        yield serving.address
