"""Reading a GPT-2 in Hugging Face's layout without Keras: its tensors, vocabulary and names."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgewise_cloud.errors import CheckpointError
from edgewise_cloud.keras_models.find import read_manifest
from edgewise_cloud.keras_models.hugging_face.config import GPT2Config
from edgewise_cloud.keras_models.hugging_face.tensors import CheckpointTensors
from edgewise_cloud.keras_models.hugging_face.vocabulary import Vocabulary, read_vocabulary
from edgewise_edge.decoding.tokenizer import Tokenizer
from edgewise_edge.errors import EdgeError


@dataclass(frozen=True, slots=True)
class ReadCheckpoint:
    """A checkpoint's parts; each tensor is read when it is asked for."""

    name: str
    revision: str
    config: GPT2Config
    tensors: Mapping[str, NDArray[np.float32]]
    tokenizer: Tokenizer


def read_checkpoint(folder: Path) -> ReadCheckpoint:
    """The checkpoint in `folder`. Raises CheckpointError."""
    manifest = read_manifest(folder)
    config = GPT2Config.read(folder)
    tensors = CheckpointTensors(folder, config)
    tensors.require_tied()
    with tempfile.TemporaryDirectory() as workspace:
        tokenizer = make_tokenizer(
            str(folder),
            read_vocabulary(folder),
            config.architecture.vocabulary_size,
            Path(workspace),
        )
    return ReadCheckpoint(
        name=folder.name,
        revision=manifest.revision if manifest else "unversioned",
        config=config,
        tensors=tensors,
        tokenizer=tokenizer,
    )


def make_tokenizer(
    checkpoint: str, vocabulary: Vocabulary, size: int, workspace: Path
) -> Tokenizer:
    """The tokenizer that devices would use; its files are written to `workspace`.

    `size` is that of the embedding. Raises CheckpointError.
    """
    vocabulary.write(workspace)
    try:
        tokenizer = Tokenizer.from_folder(workspace)
    except EdgeError as error:
        raise CheckpointError(
            f"{checkpoint}: its vocabulary cannot be used on a device: {error}"
        ) from error
    if tokenizer.size > size:
        raise CheckpointError(
            f"{checkpoint}: the vocabulary has {tokenizer.size} tokens, the weights only "
            f"{size}; they do not belong together"
        )
    return tokenizer
