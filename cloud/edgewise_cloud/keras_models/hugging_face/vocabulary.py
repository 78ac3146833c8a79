"""Reading the vocabulary of a checkpoint: vocab.json and merges.txt, or tokenizer.json alone.

A device knows the end of a text as `<|endoftext|>`. A checkpoint that names it otherwise gets it
under that name, with its own id.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgewise_cloud.errors import CheckpointError
from edgewise_cloud.keras_models.generation_config import GENERATION_CONFIG_FILE
from edgewise_cloud.keras_models.hugging_face.config import CONFIG_FILE
from edgewise_cloud.keras_models.hugging_face.json_file import read_object
from edgewise_cloud.keras_models.hugging_face.tokenizer_json import (
    TOKENIZER_JSON,
    read_tokenizer_json,
)
from edgewise_edge.decoding.tokenizer import END_OF_TEXT, MERGES_FILE, VOCABULARY_FILE

# Where transformers keeps the end token: by its text, and by its id.
NAMED_BY_TEXT = ("tokenizer_config.json", "special_tokens_map.json")
NAMED_BY_ID = (GENERATION_CONFIG_FILE, CONFIG_FILE)
VOCABULARY_SOURCES = (
    VOCABULARY_FILE,
    MERGES_FILE,
    TOKENIZER_JSON,
    "added_tokens.json",
    *NAMED_BY_TEXT,
)


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Ids by token, and merges ("a b") in order, both as in GPT-2's files."""

    ids: dict[str, int]
    merges: list[str]

    def write(self, folder: Path) -> None:
        """Write `vocab.json` and `merges.txt` to `folder`. Raises OSError."""
        ids = json.dumps(self.ids, ensure_ascii=False)
        (folder / VOCABULARY_FILE).write_text(ids, encoding="utf-8")
        (folder / MERGES_FILE).write_text("\n".join(self.merges) + "\n", encoding="utf-8")


def read_vocabulary(folder: Path) -> Vocabulary:
    """The vocabulary in `folder`, whose end token is `<|endoftext|>`. Raises CheckpointError."""
    if (folder / VOCABULARY_FILE).exists() and (folder / MERGES_FILE).exists():
        found = Vocabulary(read_object(folder / VOCABULARY_FILE), _merges(folder / MERGES_FILE))
    elif (folder / TOKENIZER_JSON).exists():
        found = Vocabulary(*read_tokenizer_json(folder / TOKENIZER_JSON))
    else:
        raise CheckpointError(
            f"{folder} has no vocabulary: neither {VOCABULARY_FILE} and {MERGES_FILE} nor "
            f"{TOKENIZER_JSON}; copy them from the model it was trained from"
        )
    if not all(type(value) is int for value in found.ids.values()):
        raise CheckpointError(f"{folder}: the vocabulary has ids that are not whole numbers")
    return replace(found, ids=_with_end(folder, found))


def _merges(path: Path) -> list[str]:
    if not path.is_file():
        raise CheckpointError(f"{path} is no file")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    return [line for line in lines if line and not line.startswith("#version")]


def _with_end(folder: Path, vocabulary: Vocabulary) -> dict[str, int]:
    """The ids, with the end token under the name that devices know."""
    ids = dict(vocabulary.ids)
    name, end = _end_token(folder, vocabulary)
    if name != END_OF_TEXT:
        ids.pop(END_OF_TEXT, None)  # another model's end, before it was fine-tuned
        ids.pop(name, None)
    return ids | {END_OF_TEXT: end}


def _end_token(folder: Path, vocabulary: Vocabulary) -> tuple[str, int]:
    ordinary = {merge.replace(" ", "", 1) for merge in vocabulary.merges}
    named = vocabulary.ids | _added_ids(folder)
    for file in NAMED_BY_TEXT:
        name = _text(_optional(folder / file).get("eos_token"))
        if name in named:
            return name, named[name]
    if END_OF_TEXT in named:
        return END_OF_TEXT, named[END_OF_TEXT]
    by_id = {token_id: name for name, token_id in named.items()}
    for file in NAMED_BY_ID:
        token_id = _first(_optional(folder / file).get("eos_token_id"))
        name = by_id.get(token_id, "") if type(token_id) is int else ""
        # Where nobody set it, it is GPT-2's, which may be a word here.
        if len(name) > 1 and name not in ordinary:
            return name, named[name]
    raise CheckpointError(
        f"{folder} has no end token: its vocabulary has no {END_OF_TEXT}, and no other one is named "
        f"as eos_token in {NAMED_BY_TEXT[0]} or eos_token_id in {CONFIG_FILE}; name it there"
    )


def _added_ids(folder: Path) -> dict[str, int]:
    """Tokens that transformers keeps apart from the vocabulary, with their ids."""
    decoder = _optional(folder / NAMED_BY_TEXT[0]).get("added_tokens_decoder")
    tokens = _optional(folder / TOKENIZER_JSON).get("added_tokens")
    found = [
        *_optional(folder / "added_tokens.json").items(),
        *(
            (_text(token), int(token_id))
            for token_id, token in (decoder.items() if isinstance(decoder, dict) else ())
            if token_id.isdecimal()
        ),
        *(
            (_text(token), token.get("id"))
            for token in (tokens if isinstance(tokens, list) else ())
            if isinstance(token, dict)
        ),
    ]
    return {name: token_id for name, token_id in found if name and type(token_id) is int}


def _optional(path: Path) -> dict[str, Any]:
    return read_object(path) if path.exists() else {}


def _text(token: Any) -> str:
    """Of a token as transformers writes it: its text, or an object that has the text."""
    if isinstance(token, dict):
        token = token.get("content")
    return token if isinstance(token, str) else ""


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, list) and value else value
