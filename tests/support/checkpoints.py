"""Changing a checkpoint's files."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

Tensors = dict[str, np.ndarray]


def update_json(path: Path, **fields: object) -> None:
    """Set fields of the JSON object in a file, which may be missing."""
    found = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(found | fields))


def remove_fields(path: Path, *names: str) -> None:
    """Remove fields of the JSON object in a file."""
    found = json.loads(path.read_text())
    path.write_text(json.dumps({name: found[name] for name in found if name not in names}))


def update_tensors(folder: Path, change: Callable[[Tensors], Tensors]) -> None:
    """Replace the tensors of a checkpoint by what `change` makes of them."""
    path = folder / "model.safetensors"
    save_file(change(load_file(path)), path)


def move_vocabulary(folder: Path) -> None:
    """Put the vocabulary into `tokenizer.json` alone, as Hugging Face's tokenizers write it."""
    ids = json.loads((folder / "vocab.json").read_text())
    merges = (folder / "merges.txt").read_text().splitlines()[1:]
    end = ids.pop("<|endoftext|>")
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
    update_json(
        folder / "tokenizer.json",
        normalizer=None,
        pre_tokenizer=byte_level,
        model={"type": "BPE", "vocab": ids, "merges": [merge.split(" ") for merge in merges]},
        added_tokens=[{"id": end, "content": "<|endoftext|>", "special": True}],
    )
    for name in ("vocab.json", "merges.txt"):
        (folder / name).unlink()
