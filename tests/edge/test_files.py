"""Whose a file is, and reading one that may be anything."""

import os
from pathlib import Path

import pytest

from edgewise_edge.store.files import is_ours, read_text


def test_a_file_is_ours_if_this_user_or_root_owns_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another user's is not, nor a link or a folder, whatever they lead to."""
    file, link = tmp_path / "file", tmp_path / "link"
    file.write_text("x")
    link.symlink_to(file)
    assert is_ours(file)
    assert not is_ours(link)
    assert not is_ours(tmp_path)
    assert not is_ours(tmp_path / "none")
    if os.geteuid() == 0:
        os.chown(file, 12345, -1)
    else:
        monkeypatch.setattr("os.geteuid", lambda: 12345)
    assert not is_ours(file)


def test_only_regular_files_of_a_size_are_read(tmp_path: Path) -> None:
    """A FIFO, a device and a file that is too large are refused at once."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "device").symlink_to("/dev/zero")
    (tmp_path / "large").write_text("x" * 11)
    for name in ("fifo", "device", "large"):
        with pytest.raises(ValueError, match=name):
            read_text(tmp_path / name, 10)
    (tmp_path / "text").write_text("ä" * 5)
    assert read_text(tmp_path / "text", 10) == "ä" * 5
