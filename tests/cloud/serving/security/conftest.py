"""Token files, certificates, and a service that asks for tokens. No model is loaded."""

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from edgewise_cloud.serving.security.settings import Security
from edgewise_cloud.serving.security.tokens import append_line, new_token
from tests.support.certificates import Authority, Pair
from tests.support.service import Running, serving


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    return tmp_path / "tokens"


@pytest.fixture
def token(tokens: Path) -> str:
    made, line = new_token("phone-1")
    append_line(tokens, line)
    return made


@pytest.fixture
def guarded(tokens: Path, token: str) -> Iterator[Running]:
    with serving("tales", load=False, security=Security(tokens=tokens)) as running:
        yield running


@pytest.fixture
def channel(guarded: Running) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(guarded.address) as channel:
        yield channel


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def pair(authority: Authority) -> Pair:
    return authority.issue("server")
