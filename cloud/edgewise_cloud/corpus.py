"""Text to learn from: read, cut into documents, tokenised, and a part of it held out."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgewise_cloud.errors import TextError
from edgewise_edge.decoding.tokenizer import END_OF_TEXT, Tokenizer

HELD_OUT_FILE = "held-out.txt"


@dataclass(frozen=True, slots=True)
class Corpus:
    """Documents to train on, and documents kept for judging."""

    train: list[str]
    held_out: list[str]
    fingerprint: str  # a digest of all documents, in order

    def write_held_out(self, folder: Path) -> None:
        """Leave what was held out in `folder`, to judge the model by."""
        text = f"\n{END_OF_TEXT}\n".join(self.held_out) + "\n"
        (folder / HELD_OUT_FILE).write_text(text, encoding="utf-8")


def read_corpus(paths: Iterable[Path], held_out: float, seed: int) -> Corpus:
    """The documents in UTF-8 files, a share of them held out.

    Documents are drawn by `seed` until they make up `held_out` of the characters; one that is
    longer than all that is wanted gives its end. Raises TextError as read_documents() does.
    """
    documents = read_documents(paths)
    wanted = int(held_out * sum(map(len, documents)))
    cuts = [len(document) for document in documents]  # where the held-out part of each begins
    missing = wanted
    for index in np.random.default_rng(seed).permutation(len(documents)).tolist():
        if missing <= 0:
            break
        length = len(documents[index])
        cuts[index] = 0 if length <= wanted else length - missing
        missing -= length
    parts = [(text[:cut], text[cut:]) for text, cut in zip(documents, cuts, strict=True)]
    return Corpus(
        train=[train for train, _ in parts if train],
        held_out=[kept for _, kept in parts if kept],
        fingerprint=_fingerprint(documents),
    )


def read_documents(paths: Iterable[Path]) -> list[str]:
    """The documents in UTF-8 files: a file, or what lies between `<|endoftext|>` marks in one.

    Raises TextError for a file that is missing, empty or not UTF-8.
    """
    return [
        stripped
        for path in paths
        for part in _read(path).split(END_OF_TEXT)
        if (stripped := part.strip())
    ]


def tokenized(documents: list[str], tokenizer: Tokenizer) -> np.ndarray:
    """The ids of all documents in a row, each closed by the end-of-text token: int32 [tokens]."""
    rows = [np.array([*tokenizer.encode(text), *tokenizer.end_ids], np.int32) for text in documents]
    return np.concatenate([np.array([], np.int32), *rows])


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
