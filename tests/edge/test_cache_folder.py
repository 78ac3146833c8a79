"""The user's cache folder: where it is, and when it is not used."""

import os
from pathlib import Path

import pytest

from edgewise_edge.store import cache_folder as module
from edgewise_edge.store.cache_folder import NOWHERE, cache_folder, report_unusable
from edgewise_edge.store.files import write_text


@pytest.fixture(autouse=True)
def nothing_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test sees the first warning."""
    monkeypatch.setattr(module, "_reported", set())


def no_user(user: int) -> None:
    """As `docker run --user 12345`: the user database does not know this user."""
    raise KeyError(user)


def test_user_without_a_home_keeps_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One warning says so, whatever fails later."""
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", no_user)
    for _ in range(2):
        assert cache_folder() == NOWHERE
    with pytest.raises(OSError, match="edgewise") as failed:
        (NOWHERE / "weights").mkdir(parents=True)
    report_unusable(NOWHERE / "weights", failed.value)
    assert len(caplog.messages) == 1
    assert "XDG_CACHE_HOME" in caplog.text


def test_folder_of_another_user_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nor is one that another user's link leads to."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "edgewise"
    assert (tmp_path / "edgewise").stat().st_mode & 0o077 == 0
    if os.geteuid() == 0:
        os.chown(tmp_path / "edgewise", 12345, -1)
    else:
        monkeypatch.setattr("os.geteuid", lambda: 12345)
    assert cache_folder() == NOWHERE
    (tmp_path / "edgewise").rmdir()
    (tmp_path / "edgewise").symlink_to(Path.home())
    if os.geteuid() == 0:
        os.chown(tmp_path / "edgewise", 12345, -1, follow_symlinks=False)
    assert cache_folder() == NOWHERE
    assert len(caplog.messages) == 1


def test_what_cannot_be_kept_is_reported_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """For all caches in the folder together."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name in (".", "weights", "passed"):
        report_unusable(tmp_path / "edgewise" / name, OSError(28, "No space left on device"))
    assert len(caplog.messages) == 1
    assert "No space left" in caplog.text


def test_file_is_replaced_and_a_link_not_followed(tmp_path: Path) -> None:
    """Nothing else remains in the folder."""
    (tmp_path / "others").write_text("theirs")
    (tmp_path / "file").symlink_to(tmp_path / "others")
    write_text(tmp_path / "file", "ours")
    assert (tmp_path / "file").read_text() == "ours"
    assert (tmp_path / "others").read_text() == "theirs"
    assert len(list(tmp_path.iterdir())) == 2
