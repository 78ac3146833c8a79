"""What `make wheels` builds."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="session")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the four wheels and the two files of constraints."""
    folder = tmp_path_factory.mktemp("built") / "dist"
    subprocess.run(
        [
            *("make", "--silent", "-o", ".venv/ready", "wheels"),
            *(f"BIN={Path(sys.executable).parent}", f"DIST={folder}"),
        ],
        check=True,
        cwd=ROOT,
    )
    return folder
