"""The user's config file."""

import pytest


@pytest.fixture
def write_config(tmp_path):
    """A function that writes the user's config file and returns its path."""

    def write(text):
        file = tmp_path / "config" / "edgewise" / "config.toml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    return write
