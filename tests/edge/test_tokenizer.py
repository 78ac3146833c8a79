"""The tokenizer, compared with KerasHub's, and its fingerprint."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise_edge import ModelCorruptError, Tokenizer, find_model
from tests.conftest import MERGES, write_vocabulary


@pytest.fixture(scope="session")
def tales() -> Tokenizer:
    return Tokenizer.from_folder(find_model("tales"))


@given(st.text())
def test_any_text_survives_the_round_trip(text: str) -> None:
    """Byte-level BPE loses nothing."""
    tokenizer = Tokenizer.from_folder(find_model("tales"))
    assert tokenizer.decode(tokenizer.encode(text)) == text.encode(errors="replace").decode()


def test_ids_are_those_of_keras_hub(tales: Tokenizer) -> None:
    """From a GPT2Tokenizer with the same files."""
    from keras_hub.models import GPT2Tokenizer

    folder = find_model("tales")
    keras = GPT2Tokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))
    for text in (
        "Once upon a time, there was a king's daughter.",
        "  Two  spaces,\n\nparagraphs\tand tabs -- 1,234 of them!",
        "naïve café, €5; 日本語",
    ):
        assert tales.encode(text) == [int(token) for token in keras(text)]


def test_special_tokens_in_a_prompt_are_ordinary_text(tales: Tokenizer) -> None:
    """A prompt cannot end its own answer."""
    assert not tales.end_ids & set(tales.encode("<|endoftext|>"))
    assert tales.token_bytes(next(iter(tales.end_ids))) == b""


def test_a_long_run_of_letters_survives_the_round_trip(tales: Tokenizer) -> None:
    """50,000 letters without a space, which take a naive BPE half a minute."""
    text = "ab" * 25_000
    assert tales.decode(tales.encode(text)) == text


def test_different_vocabularies_have_different_fingerprints(tmp_path: Path) -> None:
    """Equal files give equal fingerprints; one more merge gives another."""
    folders = [tmp_path / name for name in "abc"]
    for folder, merges in zip(folders, (MERGES, MERGES, [*MERGES, "a b"]), strict=True):
        folder.mkdir()
        write_vocabulary(folder, merges)
    first, same, other = (Tokenizer.from_folder(folder).fingerprint for folder in folders)
    assert first == same != other


def test_broken_files_are_refused(tmp_path: Path) -> None:
    """Invalid JSON, missing bytes, ids out of order."""
    write_vocabulary(tmp_path)
    vocabulary = tmp_path / "vocab.json"
    ids = json.loads(vocabulary.read_text())
    ids["the"], ids["th"] = ids["th"], ids["the"]
    for content in ("{", "[]", '{"a": 0}', json.dumps(ids)):
        vocabulary.write_text(content)
        with pytest.raises(ModelCorruptError):
            Tokenizer.from_folder(tmp_path)
