"""One server for all clients."""

from collections.abc import Iterator

import pytest

from tests.support.http.serve import edgewise_serve


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The address of `edgewise serve` with the bundled model."""
    with edgewise_serve() as address:
        yield address
