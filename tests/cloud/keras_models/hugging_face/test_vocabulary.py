"""Vocabularies as people have them: two files, tokenizer.json alone, another end token."""

import json
from pathlib import Path
from typing import Any

import pytest

from edgewise_cloud.errors import CheckpointError
from edgewise_cloud.keras_models.hugging_face.vocabulary import read_vocabulary
from edgewise_edge.decoding.tokenizer import Tokenizer
from tests.conftest import write_vocabulary
from tests.support.checkpoints import move_vocabulary, update_json

END = 263  # the last id of the tests' vocabulary
TEXT = "The other weather in the end, where a hérisson went"


def tokenizer(folder: Path) -> Tokenizer:
    read_vocabulary(folder).write(folder)
    return Tokenizer.from_folder(folder)


@pytest.mark.parametrize("old", [False, True], ids=["pairs", "lines"])
def test_tokenizer_json_alone_gives_the_same_vocabulary(tmp_path: Path, *, old: bool) -> None:
    """Its merges are pairs, or a line each in older files."""
    write_vocabulary(tmp_path)
    expected = Tokenizer.from_folder(tmp_path)
    move_vocabulary(tmp_path)
    if old:
        model = json.loads((tmp_path / "tokenizer.json").read_text())["model"]
        lines = [" ".join(merge) for merge in model["merges"]]
        update_json(tmp_path / "tokenizer.json", model=model | {"merges": lines})
    found = tokenizer(tmp_path)
    assert found.fingerprint == expected.fingerprint
    assert found.encode(TEXT) == expected.encode(TEXT)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model": {"type": "WordPiece", "vocab": {}}}, r"model\.type is 'WordPiece'"),
        ({"model": {"type": "BPE", "byte_fallback": True}}, r"model\.byte_fallback is True"),
        ({"model": {"type": "BPE", "vocab": {}}}, r"model\.merges is no list"),
        ({"model": {"type": "BPE", "vocab": {}, "merges": ["ab"]}}, "no pair of tokens"),
        ({"model": {"type": "BPE", "vocab": {}, "merges": [["a"]]}}, "no pair of tokens"),
        ({"pre_tokenizer": {"type": "Metaspace"}}, r"pre_tokenizer\.type is 'Metaspace'"),
        ({"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True}}, "add_prefix_space"),
        ({"pre_tokenizer": None}, "pre_tokenizer is no object"),
        ({"normalizer": {"type": "Lowercase"}}, "normalizer is {'type': 'Lowercase'}"),
        ({"added_tokens": [1]}, "added_tokens"),
    ],
)
def test_a_tokenizer_of_another_kind_is_refused(
    tmp_path: Path, fields: dict[str, Any], message: str
) -> None:
    """The message names the field."""
    write_vocabulary(tmp_path)
    move_vocabulary(tmp_path)
    update_json(tmp_path / "tokenizer.json", **fields)
    with pytest.raises(CheckpointError, match=message):
        read_vocabulary(tmp_path)


def test_words_that_were_added_to_a_tokenizer_are_decoded(tmp_path: Path) -> None:
    """Special tokens among them are no text."""
    write_vocabulary(tmp_path)
    move_vocabulary(tmp_path)
    tokens = json.loads((tmp_path / "tokenizer.json").read_text())["added_tokens"]
    tokens += [{"id": END + 1, "content": "une fée", "special": False}]
    tokens += [{"id": END + 2, "content": "<pad>", "special": True}]
    update_json(tmp_path / "tokenizer.json", added_tokens=tokens)
    assert tokenizer(tmp_path).decode([END + 1, END + 2]) == "une fée"


@pytest.mark.parametrize(
    ("file", "fields"),
    [
        ("tokenizer_config.json", {"eos_token": "</s>"}),
        ("tokenizer_config.json", {"eos_token": {"content": "</s>"}}),
        ("special_tokens_map.json", {"eos_token": {"content": "</s>"}}),
        ("generation_config.json", {"eos_token_id": [END, 3]}),
        ("config.json", {"eos_token_id": END}),
    ],
)
def test_an_end_token_of_another_name_ends_a_text(
    tmp_path: Path, file: str, fields: dict[str, Any]
) -> None:
    """Wherever transformers keeps it; it is no text."""
    _rename_end(tmp_path, "</s>")
    update_json(tmp_path / file, **fields)
    found = tokenizer(tmp_path)
    assert found.end_ids == {END}
    assert found.decode([END]) == ""
    assert END not in found.encode("</s>")


def test_a_fine_tuned_end_token_replaces_the_first_one(tmp_path: Path) -> None:
    """A chat model ends its answers with a token that was added."""
    write_vocabulary(tmp_path)
    update_json(tmp_path / "tokenizer_config.json", eos_token="<|im_end|>")
    update_json(tmp_path / "added_tokens.json", **{"<|im_end|>": END + 1})
    assert tokenizer(tmp_path).end_ids == {END + 1}


@pytest.mark.parametrize("eos_token_id", [None, 258, 65, 50256, "263", True])
def test_a_vocabulary_without_an_end_token_is_refused(tmp_path: Path, eos_token_id: object) -> None:
    """A word is none, although GPT-2's default id may be a word's here."""
    _rename_end(tmp_path, "</s>")
    update_json(tmp_path / "config.json", eos_token_id=eos_token_id)
    with pytest.raises(CheckpointError, match=r"no end token.*eos_token"):
        read_vocabulary(tmp_path)


@pytest.mark.parametrize("ids", [{"a": "1"}, {"a": 1.0}, {"a": None}, {"a": True}])
def test_ids_are_whole_numbers(tmp_path: Path, ids: dict[str, Any]) -> None:
    """JSON may hold anything."""
    write_vocabulary(tmp_path)
    (tmp_path / "vocab.json").write_text(json.dumps(ids))
    with pytest.raises(CheckpointError, match="whole numbers"):
        read_vocabulary(tmp_path)


def test_a_folder_without_a_vocabulary_is_refused(tmp_path: Path) -> None:
    """The message names the files."""
    with pytest.raises(CheckpointError, match=r"vocab\.json and merges\.txt nor tokenizer\.json"):
        read_vocabulary(tmp_path)


def _rename_end(folder: Path, name: str) -> None:
    write_vocabulary(folder)
    ids = json.loads((folder / "vocab.json").read_text())
    ids[name] = ids.pop("<|endoftext|>")
    (folder / "vocab.json").write_text(json.dumps(ids))
