"""An app on a scripted device and cloud."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest
from starlette.applications import Starlette

from edgewise import Router
from edgewise.server.app import create_app
from edgewise.server.settings import ServerSettings
from edgewise.testing import Script, ScriptedCloud, ScriptedDevice, completes
from tests.router.routers import FINE

TEXT = "the answer"


@dataclass(frozen=True)
class Served:
    """An app, and what is behind it."""

    app: Starlette
    router: Router
    device: ScriptedDevice
    cloud: ScriptedCloud


Serve = Callable[..., Served]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Makes apps whose device and cloud run these scripts; other options are ServerSettings'."""
    with ExitStack() as routers:

        def serve(
            device: Script = completes, cloud: Script = completes, **settings: object
        ) -> Served:
            sources = ScriptedDevice(TEXT, device), ScriptedCloud(TEXT, cloud)
            router = Router(sources[0], cloud=sources[1], device=lambda: FINE)
            routers.enter_context(router)
            return Served(create_app(router, ServerSettings(**settings)), router, *sources)

        yield serve
