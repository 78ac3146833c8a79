"""Vocabularies that are kept in the cache folder."""

from pathlib import Path

import pytest

from edgewise_edge.decoding.prepared import Vocabulary, kept

DIGESTS = ("a" * 64, "b" * 64)
VOCABULARY: Vocabulary = ({b"a": 0, b"\xff": 1}, {"<end>": 2}, "f" * 64)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In which a vocabulary is kept."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    kept(DIGESTS, VOCABULARY[2], lambda: VOCABULARY)
    (path,) = tmp_path.glob("edgewise/vocabularies/*")
    return path


def reads() -> int:
    """How often the files are read when the vocabulary is asked for once more."""
    calls = []

    def read() -> Vocabulary:
        calls.append(1)
        return VOCABULARY

    assert kept(DIGESTS, VOCABULARY[2], read) == VOCABULARY
    return len(calls)


@pytest.mark.usefixtures("file")
def test_a_vocabulary_is_read_once() -> None:
    """Other files have another."""
    assert reads() == 0
    other: Vocabulary = ({b"b": 0}, {}, "e" * 64)
    assert kept(("c" * 64,), other[2], lambda: other) == other


def test_files_that_were_replaced_meanwhile_are_not_kept(file: Path) -> None:
    """Another fingerprint than the model's: the next load reads the files again."""
    other: Vocabulary = ({b"b": 0}, {}, "e" * 64)
    assert kept(("c" * 64,), VOCABULARY[2], lambda: other) == other
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize("kind", ["empty", "cut short", "changed", "a link"])
def test_what_was_not_written_so_is_not_used(file: Path, kind: str) -> None:
    """It is read from its files, and written again."""
    content = file.read_bytes()
    if kind == "a link":
        file.symlink_to(file.rename(file.with_name("moved")))
    else:
        changed = content[:-1] + bytes([content[-1] ^ 1])
        file.write_bytes({"empty": b"", "cut short": content[:-1], "changed": changed}[kind])
    assert reads() == 1
    assert reads() == 0
