"""Text files become documents, a held-out set, and token ids."""

from pathlib import Path

import numpy as np
import pytest

from edgewise_cloud.corpus import HELD_OUT_FILE, Corpus, read_corpus, read_documents, tokenized
from edgewise_cloud.errors import TextError
from edgewise_edge.decoding.tokenizer import END_OF_TEXT, Tokenizer
from edgewise_edge.errors import RequestError
from tests.cloud.conftest import STORIES
from tests.conftest import write_vocabulary


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_documents_are_separated_by_files_and_marks(tmp_path: Path) -> None:
    """Line breaks do not separate documents, and empty ones are dropped."""
    first = write(
        tmp_path / "a.txt", "<|endoftext|>one\n\ntwo<|endoftext|> \n<|endoftext|>\nthree\n"
    )
    second = write(tmp_path / "b.txt", "fünf")
    assert read_documents([first, second]) == ["one\n\ntwo", "three", "fünf"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "text.txt cannot be read: No such file or directory"),
        (b"", "text.txt is empty"),
        (b" \n\t\n", "text.txt is empty"),
        (b"<|endoftext|>\n<|endoftext|>", "text.txt is empty"),
        ("naïve".encode("latin-1"), r"text.txt is not UTF-8 \(byte 2\); convert it first"),
    ],
)
def test_a_file_that_cannot_be_used_is_a_text_error(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    """The message names the file and what is wrong with it, also among valid files."""
    path = tmp_path / "text.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(TextError, match=message):
        read_documents([write(tmp_path / "good.txt", "good"), path])


def test_a_folder_is_a_text_error(tmp_path: Path) -> None:
    """It cannot be read."""
    with pytest.raises(TextError, match="cannot be read: Is a directory"):
        read_documents([tmp_path])


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5])
def test_whole_documents_are_held_out(text: Path, share: float) -> None:
    """Each is in one set, in order, and the share is exceeded by less than one document."""
    corpus = read_corpus([text], share, seed=1)
    for documents in (corpus.train, corpus.held_out):
        assert documents == [story for story in STORIES if story in documents]
    assert sorted([*corpus.train, *corpus.held_out]) == sorted(STORIES)
    wanted = share * sum(map(len, STORIES))
    assert wanted <= sum(map(len, corpus.held_out)) < wanted + max(map(len, STORIES))


def test_the_seed_chooses_the_held_out_set(text: Path) -> None:
    """The same documents for the same seed, from anywhere in the text."""
    first, again, other = (read_corpus([text], 0.2, seed) for seed in (1, 1, 2))
    assert first == again
    assert first.held_out != other.held_out
    assert first.held_out != STORIES[-len(first.held_out) :]


def test_the_end_of_a_single_document_is_held_out(tmp_path: Path) -> None:
    """Its last tenth; no character is lost."""
    document = " ".join(STORIES)
    corpus = read_corpus([write(tmp_path / "text.txt", document)], 0.1, seed=1)
    assert corpus.train[0] + corpus.held_out[0] == document
    assert len(corpus.held_out[0]) == len(document) // 10


def test_only_the_end_of_a_long_document_is_held_out(tmp_path: Path) -> None:
    """The share is kept with a few large files, whichever is drawn first."""
    text = write(tmp_path / "text.txt", "short<|endoftext|>a much longer one")
    for seed in range(8):
        corpus = read_corpus([text], 0.5, seed)
        assert sum(map(len, corpus.held_out)) == 11
        assert "a much longer one".endswith(corpus.held_out[-1])
        assert corpus.train[-1] == "a much longer one".removesuffix(corpus.held_out[-1])


def test_what_another_text_holds_out_is_left_out() -> None:
    """A held-out story is cut out of the book it is in, with its short paragraphs; the rest stays."""
    stories = [f'{story}\n\n"Yes."\n\n{story.upper()}' for story in STORIES[:6]]
    book = Corpus(["\n \n".join(stories), "Another\n \nbook"], ["its end"], "")
    indented = stories[4].replace(" ", "\n  ", 1)
    left = book.without_held_out([Corpus([], [stories[1], indented], "")])
    pieces = [stories[0], "\n\n".join(stories[2:4]), stories[5], "Another\n \nbook"]
    assert left == Corpus(pieces, ["its end"], "")
    assert book.without_held_out([]) == book


def test_a_byte_order_mark_is_dropped(tmp_path: Path) -> None:
    """Some editors on Windows write one."""
    path = tmp_path / "text.txt"
    path.write_bytes(b"\xef\xbb\xbfonce")
    assert read_documents([path]) == ["once"]


def test_the_held_out_file_can_be_read(text: Path, tmp_path: Path) -> None:
    """It has the same documents."""
    corpus = read_corpus([text], 0.2, seed=1)
    corpus.write_held_out(tmp_path)
    assert read_documents([tmp_path / HELD_OUT_FILE]) == corpus.held_out


def test_the_fingerprint_depends_only_on_the_documents(text: Path, tmp_path: Path) -> None:
    """And their order, not on how they are split into files or which are held out."""
    fingerprint = read_corpus([text], 0.2, seed=1).fingerprint
    halves = [
        write(tmp_path / name, END_OF_TEXT.join(documents))
        for name, documents in {"a.txt": STORIES[:9], "b.txt": STORIES[9:]}.items()
    ]
    assert read_corpus(halves, 0.1, seed=2).fingerprint == fingerprint
    assert read_corpus(halves[::-1], 0.2, seed=1).fingerprint != fingerprint
    assert read_corpus(halves[1:], 0.2, seed=1).fingerprint != fingerprint


def test_an_end_of_text_token_follows_each_document(tmp_path: Path) -> None:
    """A mark within a document is ordinary text."""
    write_vocabulary(tmp_path)
    tokenizer = Tokenizer.from_folder(tmp_path)
    (end,) = tokenizer.end_ids
    ids = tokenized(["the", "in", END_OF_TEXT], tokenizer)
    assert ids.dtype == np.int32
    assert (ids == end).sum() == 3
    assert ids[[1, 3, -1]].tolist() == [end] * 3
    assert tokenized([], tokenizer).tolist() == []


def test_a_text_that_the_tokenizer_cannot_take_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the text; a long run of blanks is none."""
    write_vocabulary(tmp_path)
    tokenizer = Tokenizer.from_folder(tmp_path)
    assert len(tokenized([" " * 999_999 + "a"], tokenizer)) > 999_999

    def refuse(_text: str) -> list[int]:
        raise RequestError("too odd")

    monkeypatch.setattr(tokenizer, "encode", refuse)
    with pytest.raises(TextError, match="too odd"):
        tokenized(["a"], tokenizer)
