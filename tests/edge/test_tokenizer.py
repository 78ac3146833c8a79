"""The tokenizer, compared with KerasHub's, and its fingerprint."""

import functools
import json
import os
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewise_edge import ModelCorruptError, RequestError, Tokenizer, find_model
from edgewise_edge.decoding import tokenizer as module
from tests.conftest import MERGES, write_vocabulary


@functools.cache
def bundled() -> Tokenizer:
    """That of the bundled model."""
    return Tokenizer.from_folder(find_model("tales"))


@pytest.fixture
def tales() -> Tokenizer:
    return bundled()


@settings(deadline=None)
@given(st.text())
def test_any_text_survives_the_round_trip(text: str) -> None:
    """Byte-level BPE loses nothing."""
    tokenizer = bundled()
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


def test_a_message_quotes_little_of_a_file(tmp_path: Path) -> None:
    """A merge may be as long as its file."""
    write_vocabulary(tmp_path)
    (tmp_path / "merges.txt").write_text("a" * 10**6)
    with pytest.raises(ModelCorruptError, match="aaa") as refused:
        Tokenizer.from_folder(tmp_path)
    assert len(str(refused.value)) < 1000


ODD_IDS = [5, -1, 2**31, 2**32, 2**64, 1.5, 300.0, None, True, "300", [300], {}, float("nan")]


@pytest.mark.parametrize("token", ["zz", "<|endoftext|>"])
@pytest.mark.parametrize("odd", ODD_IDS, ids=str)
def test_an_odd_id_is_refused(tmp_path: Path, token: str, odd: object) -> None:
    """Used twice, out of range, or no whole number; also of the end token."""
    write_vocabulary(tmp_path)
    vocabulary = tmp_path / "vocab.json"
    vocabulary.write_text(json.dumps(json.loads(vocabulary.read_text()) | {token: odd}))
    with pytest.raises(ModelCorruptError):
        Tokenizer.from_folder(tmp_path)


ODD_CONTENTS = {
    "nested": "[" * 10**6,
    "nested objects": '{"a":' * 10**6,
    "many lists": '{"a":[' + "[]," * 10**6 + "[]]}",
    "too large": '{"a":' + " " * 2**24 + "0}",
    "many digits": '{"a":' + "1" * 10**5 + "}",
    "no object": "null",
    "an empty token": json.dumps({"": 0}),
    "a surrogate": r'{"\ud800": 1}',
}


@pytest.mark.parametrize("content", ODD_CONTENTS.values(), ids=ODD_CONTENTS.keys())
def test_an_odd_vocabulary_is_refused(tmp_path: Path, content: str) -> None:
    """Whatever its JSON holds."""
    write_vocabulary(tmp_path)
    (tmp_path / "vocab.json").write_text(content)
    with pytest.raises(ModelCorruptError):
        Tokenizer.from_folder(tmp_path)


@pytest.mark.parametrize("name", ["vocab.json", "merges.txt"])
def test_a_fifo_is_refused(tmp_path: Path, name: str) -> None:
    """It would be read for ever."""
    write_vocabulary(tmp_path)
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name)
    with pytest.raises(ModelCorruptError, match="regular file"):
        Tokenizer.from_folder(tmp_path)


def test_equal_ids_are_refused_without_files() -> None:
    """By the constructor too, before tiktoken panics."""
    with pytest.raises(ModelCorruptError, match="same id"):
        Tokenizer({b"a": 0, b"b": 0}, {})


def test_a_long_run_of_whitespace_is_encoded(tales: Tokenizer) -> None:
    """As many characters as make tiktoken's regex engine panic."""
    for text in (" " * 999_999 + "a", "b" + "\n \u2003" * 400_000 + " a"):
        assert tales.decode(tales.encode(text)) == text


@given(st.text(alphabet=" \n\t\xa0\u2003\x1cab1!'", max_size=30))
@settings(deadline=None)
def test_a_run_encoded_by_itself_gives_the_same_ids(text: str) -> None:
    """As if the whole text were given to tiktoken."""
    tokenizer = bundled()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_LONG", -1)
        short = module._LONG_RUN.pattern.replace("{10000,}", "{2,}")
        patch.setattr(module, "_LONG_RUN", re.compile(short))
        assert tokenizer.encode(text) == tokenizer._encoding.encode_ordinary(text)


class PanicException(BaseException):  # the name that PyO3 gives a Rust panic
    """What tiktoken raises where it should not."""


def test_no_panic_leaves_the_tokenizer(tales: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it is about: an app that catches Exception catches it."""

    def panic(_text: str) -> list[int]:
        raise PanicException

    monkeypatch.setattr(tales._encoding, "encode_ordinary", panic)
    with pytest.raises(RequestError, match="cannot be split into tokens"):
        tales.encode("anything")
