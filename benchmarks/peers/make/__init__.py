"""Models for the runtimes: `python -m benchmarks.peers.make`. Reads GPT-2 without transformers."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file

Array = npt.NDArray[np.float32]


class Checkpoint(NamedTuple):
    """GPT-2's sizes, and its float32 tensors by the names h.0.attn.c_attn.weight, wte.weight ...

    Dense weights have the shape (inputs, outputs).
    """

    vocabulary: int
    layers: int
    heads: int
    width: int
    context: int
    tensors: Mapping[str, Array]


def read(source: Path) -> Checkpoint:
    """Read config.json and model.safetensors of a Hugging Face folder."""
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    sizes = [config[key] for key in ("vocab_size", "n_layer", "n_head", "n_embd", "n_positions")]
    tensors = load_file(source / "model.safetensors").items()
    return Checkpoint(
        *sizes,
        {name.removeprefix("transformer."): each.astype(np.float32) for name, each in tensors},
    )
