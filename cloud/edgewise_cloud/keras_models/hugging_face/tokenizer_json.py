"""Reading `tokenizer.json`, the one file in which Hugging Face's tokenizers keep everything."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from edgewise_cloud.errors import CheckpointError
from edgewise_cloud.keras_models.hugging_face.json_file import read_object
from edgewise_edge.decoding.tokenizer import unicode_to_bytes

TOKENIZER_JSON = "tokenizer.json"
# What a device does as GPT-2 does, and other tokenizers do otherwise.
_MODEL = {
    "type": ("BPE",),
    "dropout": (None, 0.0),
    "continuing_subword_prefix": (None, ""),
    "end_of_word_suffix": (None, ""),
    "byte_fallback": (None, False),
}
_BYTE_LEVEL = {"type": ("ByteLevel",), "add_prefix_space": (False,), "use_regex": (None, True)}


def read_tokenizer_json(path: Path) -> tuple[dict[str, int], list[str]]:
    """Ids by token, and merges ("a b") in order.

    Raises CheckpointError for what is not GPT-2's byte-level BPE: it names the field.
    """
    fields = read_object(path)
    try:
        model = _object(fields, "model")
        _require("model.", model, _MODEL)
        _require("pre_tokenizer.", _object(fields, "pre_tokenizer"), _BYTE_LEVEL)
        _require("", fields, {"normalizer": (None,)})
        ids = _object(model, "vocab")
        return ids | _added_words(fields.get("added_tokens") or [], ids), _merges(model)
    except (TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path} is no tokenizer of GPT-2's kind: {error}; give a model with one"
        ) from error


def _object(fields: dict[str, Any], name: str) -> dict[str, Any]:
    found = fields.get(name)
    if not isinstance(found, dict):
        raise TypeError(f"{name} is no object")
    return found


def _require(name: str, fields: dict[str, Any], allowed: dict[str, tuple[Any, ...]]) -> None:
    for field, values in allowed.items():
        if (found := fields.get(field)) not in values:
            raise ValueError(f"{name}{field} is {found!r}, it must be {values[-1]!r}")


def _merges(model: dict[str, Any]) -> list[str]:
    """Older files have "a b", newer ones ["a", "b"]."""
    merges = model.get("merges")
    if not isinstance(merges, list):
        raise TypeError("model.merges is no list")
    joined = [" ".join(merge) if _is_pair(merge) else merge for merge in merges]
    if wrong := [merge for merge in joined if not isinstance(merge, str) or merge.count(" ") != 1]:
        raise ValueError(f"model.merges has {wrong[0]!r}, which is no pair of tokens")
    return joined


def _is_pair(merge: Any) -> bool:
    return isinstance(merge, list) and all(isinstance(part, str) for part in merge)


def _added_words(tokens: Iterable[Any], ids: dict[str, Any]) -> dict[str, Any]:
    """Words that were added to the vocabulary, spelled as it spells them; special tokens are not."""
    spelling = {byte: character for character, byte in unicode_to_bytes().items()}
    added = {}
    for token in tokens:
        if not isinstance(token, dict) or not isinstance(token.get("content"), str):
            raise TypeError("added_tokens has one without content")
        if not token.get("special") and token["content"] not in ids:
            name = "".join(spelling[byte] for byte in token["content"].encode())
            added[name] = token.get("id")
    return added
