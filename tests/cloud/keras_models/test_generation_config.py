"""Recommended sampling settings in a checkpoint's folder."""

from pathlib import Path

import pytest

from edgewise_cloud.errors import CheckpointError
from edgewise_cloud.keras_models.generation_config import (
    GENERATION_CONFIG_FILE,
    read_sampling,
    save_sampling,
)


@pytest.mark.parametrize(
    "settings", [{}, {"temperature": 0, "top_k": 5}, {"top_p": 0.9, "min_p": 0.1}]
)
def test_settings_are_read_as_they_were_saved(settings: dict[str, float], tmp_path: Path) -> None:
    """Without any, no file is made."""
    save_sampling(settings, tmp_path)
    assert read_sampling(tmp_path) == settings
    assert (tmp_path / GENERATION_CONFIG_FILE).exists() == bool(settings)


def test_what_else_hugging_face_writes_is_ignored(tmp_path: Path) -> None:
    """GPT-2's own file has ids of special tokens only."""
    text = '{"bos_token_id": 50256, "transformers_version": "4.26.0", "temperature": null}'
    (tmp_path / GENERATION_CONFIG_FILE).write_text(text)
    assert read_sampling(tmp_path) == {}


@pytest.mark.parametrize("text", ["{", "[]", '{"temperature": -1}', '{"top_k": "many"}'])
def test_invalid_settings_are_an_error(text: str, tmp_path: Path) -> None:
    """It names the file."""
    (tmp_path / GENERATION_CONFIG_FILE).write_text(text)
    with pytest.raises(CheckpointError, match=GENERATION_CONFIG_FILE):
        read_sampling(tmp_path)
