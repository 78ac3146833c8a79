"""What the service's tests share."""

from pathlib import Path

import pytest

from edgewise_edge.decoding.tokenizer import Tokenizer


@pytest.fixture(scope="session")
def vocabulary(exact_folder: Path) -> str:
    """The fingerprint of the tiny model's vocabulary."""
    return Tokenizer.from_folder(exact_folder).fingerprint
