"""`edgewise serve` with a cloud, and a real Chromium."""

import shutil
from collections.abc import Iterator

import pytest

from edgewise_edge import DeviceModel
from tests.support.device_as_cloud import DeviceAsCloud
from tests.support.http.serve import edgewise_serve
from tests.support.scripted_cloud import serving_scripted

NAMES = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def chromium() -> str:
    """The browser's path; without one the tests are skipped."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if not found:
        pytest.skip("no Chromium is installed; with Debian: apt-get install chromium")
    return found


@pytest.fixture(scope="session")
def server(chromium: str) -> Iterator[str]:
    """The address of a server whose cloud has the device's model."""
    cloud = DeviceAsCloud(DeviceModel.load("tales", threads=1))
    with serving_scripted(cloud) as address, edgewise_serve("--cloud", address) as url:
        yield url
