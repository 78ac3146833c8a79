"""A corpus as token ids, and whether it is enough; without Keras, so that it is known early."""

from dataclasses import dataclass

import numpy as np

from edgewise_cloud.corpus import Corpus, tokenized
from edgewise_cloud.errors import TextError
from edgewise_edge.decoding.tokenizer import Tokenizer

ENOUGH_CHARACTERS = 100_000  # of a document: more tokens than a row, even where they are spaces


@dataclass(frozen=True, slots=True)
class TokenizedCorpus:
    """The training set and the held-out set as ids, int32 [tokens]."""

    train: np.ndarray
    held_out: np.ndarray
    held_out_bytes: int  # of text, for bits per byte

    @classmethod
    def of(cls, corpus: Corpus, tokenizer: Tokenizer) -> "TokenizedCorpus":
        """Tokenize both sets."""
        return cls(
            train=tokenized(corpus.train, tokenizer),
            held_out=tokenized(corpus.held_out, tokenizer),
            held_out_bytes=sum(len(text.encode()) for text in corpus.held_out),
        )

    def require_rows(self, row: int, text: str = "the text") -> None:
        """Raise TextError if there are too few tokens for a row of `row`; `text` names the text."""
        _require_rows(len(self.train), len(self.held_out), row, text)


def require_text_for_rows(
    corpus: Corpus, tokenizer: Tokenizer, row: int, text: str = "the text"
) -> None:
    """Raise TextError as require_rows(), without tokenizing more of the text than it takes."""
    train, held_out = (
        _count(documents, tokenizer, enough=row + 1)
        for documents in (corpus.train, corpus.held_out)
    )
    _require_rows(train, held_out, row, text)


def _count(documents: list[str], tokenizer: Tokenizer, enough: int) -> int:
    """The number of tokens; where there are enough, of the first ones."""
    count = 0
    for text in documents:
        count += len(tokenizer.encode(text[:ENOUGH_CHARACTERS])) + len(tokenizer.end_ids)
        if count >= enough:
            break
    return count


def _require_rows(train: int, held_out: int, row: int, text: str = "the text") -> None:
    if train <= row or held_out < 2:
        raise TextError(
            f"{text} is too short: {train:,} tokens to train on, where one row takes {row + 1}, "
            f"and {held_out:,} held out; give more text, or hold out more"
        )
