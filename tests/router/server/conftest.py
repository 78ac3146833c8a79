"""An app on a scripted device."""

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from edgewise import Router
from edgewise.testing import ScriptedDevice
from tests.support.http.texts import client


@pytest.fixture
def router() -> Iterator[Router]:
    with Router(ScriptedDevice("the answer")) as router:
        yield router


@pytest.fixture
def asking(router: Router) -> Iterator[TestClient]:
    with client(router) as asking:
        yield asking
