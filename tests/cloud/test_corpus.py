"""Text becomes documents, a part of them held out, and ids."""

from pathlib import Path

import numpy as np
import pytest

from edgewise_cloud.corpus import HELD_OUT_FILE, read_corpus, read_documents, tokenized
from edgewise_cloud.errors import TextError
from edgewise_edge.decoding.tokenizer import END_OF_TEXT, Tokenizer
from tests.cloud.conftest import STORIES
from tests.conftest import write_vocabulary


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_documents_are_parted_by_files_and_marks(tmp_path: Path) -> None:
    """What is between two marks is one, whatever its line breaks; nothing is none."""
    first = write(
        tmp_path / "a.txt", "<|endoftext|>one\n\ntwo<|endoftext|> \n<|endoftext|>\nthree\n"
    )
    second = write(tmp_path / "b.txt", "fünf")
    assert read_documents([first, second]) == ["one\n\ntwo", "three", "fünf"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "text.txt cannot be read: No such file or directory"),
        (b"", "text.txt is empty"),
        (b" \n\t\n", "text.txt is empty"),
        (b"<|endoftext|>\n<|endoftext|>", "text.txt is empty"),
        ("naïve".encode("latin-1"), r"text.txt is not UTF-8 \(byte 2\); convert it first"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, content: bytes | None, words: str) -> None:
    """Among good ones too: the file is named, and what is wrong with it."""
    path = tmp_path / "text.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(TextError, match=words):
        read_documents([write(tmp_path / "good.txt", "good"), path])


def test_a_folder_is_no_text(tmp_path: Path) -> None:
    """Nor is anything else that cannot be opened."""
    with pytest.raises(TextError, match="cannot be read: Is a directory"):
        read_documents([tmp_path])


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5])
def test_whole_documents_are_held_out(text: Path, share: float) -> None:
    """Each is on one side, in its order, and the share is reached by less than one document."""
    corpus = read_corpus([text], share, seed=1)
    for part in (corpus.train, corpus.held_out):
        assert part == [story for story in STORIES if story in part]
    assert sorted([*corpus.train, *corpus.held_out]) == sorted(STORIES)
    wanted = share * sum(map(len, STORIES))
    assert wanted <= sum(map(len, corpus.held_out)) < wanted + max(map(len, STORIES))


def test_the_seed_draws_what_is_held_out(text: Path) -> None:
    """The same ones for the same seed, from all over the text."""
    first, again, other = (read_corpus([text], 0.2, seed) for seed in (1, 1, 2))
    assert first == again
    assert first.held_out != other.held_out
    assert first.held_out != STORIES[-len(first.held_out) :]


def test_of_a_single_document_the_end_is_held_out(tmp_path: Path) -> None:
    """Its last tenth, and nothing is lost between."""
    document = " ".join(STORIES)
    corpus = read_corpus([write(tmp_path / "text.txt", document)], 0.1, seed=1)
    assert corpus.train[0] + corpus.held_out[0] == document
    assert len(corpus.held_out[0]) == len(document) // 10


def test_a_document_longer_than_the_share_gives_its_end(tmp_path: Path) -> None:
    """A few large files lose no more than the share, whichever is drawn first."""
    text = write(tmp_path / "text.txt", "short<|endoftext|>a much longer one")
    for seed in range(8):
        corpus = read_corpus([text], 0.5, seed)
        assert sum(map(len, corpus.held_out)) == 11
        assert "a much longer one".endswith(corpus.held_out[-1])
        assert corpus.train[-1] == "a much longer one".removesuffix(corpus.held_out[-1])


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    """Editors on Windows leave one."""
    path = tmp_path / "text.txt"
    path.write_bytes(b"\xef\xbb\xbfonce")
    assert read_documents([path]) == ["once"]


def test_what_was_held_out_can_be_read_again(text: Path, tmp_path: Path) -> None:
    """The file holds the same documents."""
    corpus = read_corpus([text], 0.2, seed=1)
    corpus.write_held_out(tmp_path)
    assert read_documents([tmp_path / HELD_OUT_FILE]) == corpus.held_out


def test_the_fingerprint_is_the_text_s(text: Path, tmp_path: Path) -> None:
    """Of its documents and their order, wherever they are cut and whatever is held out."""
    fingerprint = read_corpus([text], 0.2, seed=1).fingerprint
    halves = [
        write(tmp_path / name, END_OF_TEXT.join(part))
        for name, part in {"a.txt": STORIES[:9], "b.txt": STORIES[9:]}.items()
    ]
    assert read_corpus(halves, 0.1, seed=2).fingerprint == fingerprint
    assert read_corpus(halves[::-1], 0.2, seed=1).fingerprint != fingerprint
    assert read_corpus(halves[1:], 0.2, seed=1).fingerprint != fingerprint


def test_each_document_is_closed_by_the_end_of_text(tmp_path: Path) -> None:
    """And a mark inside of it would be ordinary text."""
    write_vocabulary(tmp_path)
    tokenizer = Tokenizer.from_folder(tmp_path)
    (end,) = tokenizer.end_ids
    ids = tokenized(["the", "in", END_OF_TEXT], tokenizer)
    assert ids.dtype == np.int32
    assert (ids == end).sum() == 3
    assert ids[[1, 3, -1]].tolist() == [end] * 3
    assert tokenized([], tokenizer).tolist() == []
