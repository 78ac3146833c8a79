"""Training a vocabulary: text of any shape, in bounded time."""

import json
from pathlib import Path

import pytest
from tokenizers import ByteLevelBPETokenizer

from edgewise_cloud.train.vocabulary import train_vocabulary

TEXT = "the cat sat on the mat, and then another cat sat there " * 20


@pytest.mark.parametrize("character", [" ", "a", "-", "\n"])
def test_long_words_are_cut(tmp_path: Path, character: str) -> None:
    """A run of 999,999 takes the trainer minutes as one word; no token is longer than 1,000 bytes."""
    train_vocabulary([TEXT, character * 999_999 + "b"], 290, tmp_path)
    ids = json.loads((tmp_path / "vocab.json").read_text())
    assert len(ids) == 290
    assert max(map(len, ids)) <= 1000


def test_vocabulary_of_ordinary_text_is_that_of_the_plain_trainer(tmp_path: Path) -> None:
    """Cutting changes nothing there."""
    train_vocabulary([TEXT], 275, tmp_path)
    plain = ByteLevelBPETokenizer()
    plain.train_from_iterator([TEXT], vocab_size=274, show_progress=False)
    ids = json.loads((tmp_path / "vocab.json").read_text())
    assert {token: ids[token] for token in plain.get_vocab()} == plain.get_vocab()
