"""A corpus as token ids, and the random batches a training reads from it."""

from dataclasses import dataclass

import keras
import numpy as np

from edgewise_cloud.corpus import Corpus, tokenized
from edgewise_cloud.errors import TextError
from edgewise_edge.decoding.tokenizer import Tokenizer


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

    def require_rows(self, row: int) -> None:
        """Raise TextError if there are too few tokens for a row of `row`."""
        if len(self.train) <= row or len(self.held_out) < 2:
            raise TextError(
                f"the text is too short: {len(self.train):,} tokens to train on, where one row "
                f"takes {row + 1}, and {len(self.held_out):,} held out; give more text, or hold "
                "out more"
            )


class RandomRows(keras.utils.PyDataset):  # type: ignore[misc]  # Keras ships no types
    """Batches of random rows of a text, drawn by (*key, batch number): the same in every run."""

    def __init__(self, tokens: np.ndarray, row: int, rows: int, batches: int, *key: int) -> None:
        super().__init__()
        self._tokens, self._row, self._rows, self._batches = tokens, row, rows, batches
        self._key = key

    def __len__(self) -> int:
        """Batches per epoch."""
        return self._batches

    def __getitem__(self, index: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Inputs of batch `index`, int32 (rows, row), and the tokens that follow each."""
        generator = np.random.default_rng((*self._key, index))
        starts = generator.integers(0, len(self._tokens) - self._row, size=(self._rows, 1))
        rows = self._tokens[starts + np.arange(self._row + 1)]
        inputs = {"token_ids": rows[:, :-1], "padding_mask": np.ones_like(rows[:, :-1])}
        return inputs, rows[:, 1:]
