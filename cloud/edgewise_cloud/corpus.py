"""Training text: read, split into documents, a share of them held out, and tokenised."""

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edgewise_cloud.errors import TextError
from edgewise_edge.decoding.tokenizer import END_OF_TEXT, Tokenizer
from edgewise_edge.errors import RequestError

_PARAGRAPHS = re.compile(r"\n\s*\n")
_TELLING = 40  # characters; shorter paragraphs are in many texts

HELD_OUT_FILE = "held-out.txt"
HELD_OUT_THEN_FILE = "held-out-then.txt"  # of the second phase's text


@dataclass(frozen=True, slots=True)
class Corpus:
    """Documents, split into a training set and a held-out set for validation."""

    train: list[str]
    held_out: list[str]
    fingerprint: str  # a digest of all documents, in order

    def without_held_out(self, others: Iterable["Corpus"]) -> "Corpus":
        """Without the paragraphs that `others` hold out: a story may be in a book of another text.

        Paragraphs too short to tell go with the one before. A document that loses some from its middle
        becomes two.
        """
        known = {
            _words(paragraph)
            for other in others
            for document in other.held_out
            for paragraph in _PARAGRAPHS.split(document)
            if len(paragraph) >= _TELLING
        }
        train = [piece for document in self.train for piece in _without(document, known)]
        return replace(self, train=train)

    def write_held_out(self, folder: Path, name: str = HELD_OUT_FILE) -> None:
        """Write the held-out set to a file in `folder`, to evaluate the model on later."""
        text = f"\n{END_OF_TEXT}\n".join(self.held_out) + "\n"
        (folder / name).write_text(text, encoding="utf-8")


def read_corpus(paths: Iterable[Path], held_out: float, seed: int) -> Corpus:
    """Read the documents of UTF-8 files and hold out a share of them.

    Documents are drawn by `seed` until they make up `held_out` of the characters. A document that
    is longer than that share is split, and its end held out. Raises TextError as read_documents().
    """
    documents = read_documents(paths)
    wanted = int(held_out * sum(map(len, documents)))
    splits = [len(document) for document in documents]  # where the held-out text of each begins
    missing = wanted
    for index in np.random.default_rng(seed).permutation(len(documents)).tolist():
        if missing <= 0:
            break
        length = len(documents[index])
        splits[index] = 0 if length <= wanted else length - missing
        missing -= length
    pairs = list(zip(documents, splits, strict=True))
    return Corpus(
        train=[document[:split] for document, split in pairs if split > 0],
        held_out=[document[split:] for document, split in pairs if split < len(document)],
        fingerprint=_fingerprint(documents),
    )


def read_documents(paths: Iterable[Path]) -> list[str]:
    """Read the documents of UTF-8 files; `<|endoftext|>` separates documents within a file.

    Raises TextError for a file that is missing, empty or not UTF-8.
    """
    return [
        stripped
        for path in paths
        for document in _read(path).split(END_OF_TEXT)
        if (stripped := document.strip())
    ]


def tokenized(documents: list[str], tokenizer: Tokenizer) -> np.ndarray:
    """All documents as one array, an end-of-text token after each: int32 [tokens].

    Raises TextError for a text that the tokenizer cannot take.
    """
    try:
        ids = [
            np.array([*tokenizer.encode(text), *tokenizer.end_ids], np.int32) for text in documents
        ]
    except RequestError as error:
        raise TextError(str(error)) from error
    return np.concatenate([np.array([], np.int32), *ids])


def _without(document: str, known: set[str]) -> Iterator[str]:
    """What is left of the document, in pieces, without its `known` paragraphs."""
    paragraphs = _PARAGRAPHS.split(document)
    if known.isdisjoint(map(_words, paragraphs)):
        yield document
        return
    dropping, piece = False, list[str]()
    for paragraph in paragraphs:
        if len(paragraph) >= _TELLING:
            dropping = _words(paragraph) in known
        if not dropping:
            piece.append(paragraph)
        elif piece:
            yield "\n\n".join(piece)
            piece = []
    if piece:
        yield "\n\n".join(piece)


def _words(paragraph: str) -> str:
    """Its words alone: another edition may break and indent its lines otherwise."""
    return " ".join(paragraph.split())


def _fingerprint(documents: list[str]) -> str:
    digest = hashlib.sha256()
    for document in documents:
        digest.update(document.encode() + b"\0")
    return digest.hexdigest()[:16]


def _read(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise TextError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise TextError(f"{path} is not UTF-8 (byte {error.start}); convert it first") from error
    if not text.replace(END_OF_TEXT, "").strip():
        raise TextError(f"{path} is empty")
    return text
