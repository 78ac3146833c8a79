"""The random batches that a training reads."""

import keras
import numpy as np


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
