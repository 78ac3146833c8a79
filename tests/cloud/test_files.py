"""Atomic writes."""

from pathlib import Path

import pytest

from edgewise_cloud.files import atomic_write, require_writable


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    """The new content is visible only when it is complete, and nothing else stays in the folder."""
    path = tmp_path / "file"
    path.write_text("old")

    def interrupted() -> None:
        with atomic_write(path) as partial:
            partial.write_text("ne")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [one.read_text() for one in tmp_path.iterdir()] == ["old"]
    with atomic_write(path) as partial:
        partial.write_text("new")
        assert path.read_text() == "old"
    assert [one.read_text() for one in tmp_path.iterdir()] == ["new"]


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    """Below a file; nothing is made while checking."""
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        require_writable(tmp_path / "file" / "below")
    require_writable(tmp_path / "new" / "below")
    assert not (tmp_path / "new").exists()
