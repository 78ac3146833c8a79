"""Loading a Keras GPT-2 by name: a bundled model, a folder, or a preset that KerasHub fetches."""

import json
from dataclasses import dataclass
from pathlib import Path

from keras_hub.models import GPT2Backbone, GPT2Tokenizer

from edgewise_cloud.errors import CheckpointError
from edgewise_cloud.keras_models.find import find_checkpoint, read_manifest
from edgewise_cloud.keras_models.generation_config import read_sampling
from edgewise_edge.decoding.tokenizer import MERGES_FILE, VOCABULARY_FILE, Tokenizer
from edgewise_edge.errors import EdgeError
from edgewise_edge.store.manifest import Architecture, Manifest


@dataclass(frozen=True, slots=True)
class KerasModel:
    """A KerasHub GPT-2 with its vocabulary."""

    name: str
    revision: str
    backbone: GPT2Backbone
    tokenizer: Tokenizer
    sampling: dict[str, float]  # what its makers recommend

    @property
    def parameters(self) -> int:
        """The number of weights."""
        return int(self.backbone.count_params())

    @property
    def architecture(self) -> Architecture:
        """Its sizes."""
        backbone = self.backbone
        return Architecture(
            vocabulary_size=backbone.vocabulary_size,
            context_window=backbone.max_sequence_length,
            layers=backbone.num_layers,
            heads=backbone.num_heads,
            width=backbone.hidden_dim,
        )


def load_keras(checkpoint: str, workspace: Path, *, dtype: str = "float32") -> KerasModel:
    """Load `checkpoint`: a bundled model, a folder, or a preset that KerasHub can fetch.

    The vocabulary's files are written to `workspace`. Raises CheckpointError.
    """
    folder = find_checkpoint(checkpoint)
    preset = str(folder) if folder else checkpoint
    if not folder and "://" not in checkpoint and checkpoint not in GPT2Backbone.presets:
        raise CheckpointError(
            f"'{checkpoint}' is no GPT-2 preset; presets are {', '.join(GPT2Backbone.presets)}"
        )
    manifest = read_manifest(folder) if folder else None
    try:
        backbone = GPT2Backbone.from_preset(preset, dtype=dtype)
        keras_tokenizer = GPT2Tokenizer.from_preset(preset)
    # Hubs, archives and file formats each raise errors of their own: too many to list.
    except Exception as error:
        raise CheckpointError(_explain(checkpoint, folder, error)) from error
    _write_vocabulary(keras_tokenizer, workspace)
    try:
        tokenizer = Tokenizer.from_folder(workspace)
    except EdgeError as error:
        raise CheckpointError(
            f"{checkpoint}: its vocabulary cannot be used on a device: {error}"
        ) from error
    if tokenizer.size > backbone.vocabulary_size:
        raise CheckpointError(
            f"{checkpoint}: the vocabulary has {tokenizer.size} tokens, the weights only "
            f"{backbone.vocabulary_size}; they do not belong together"
        )
    return KerasModel(
        name=folder.name if folder else _last_part(checkpoint),
        revision=manifest.revision if manifest else "unversioned",
        backbone=backbone,
        tokenizer=tokenizer,
        sampling=_sampling(folder, manifest),
    )


def _sampling(folder: Path | None, manifest: Manifest | None) -> dict[str, float]:
    if manifest:
        return manifest.sampling
    return read_sampling(folder) if folder else {}


def _write_vocabulary(tokenizer: GPT2Tokenizer, folder: Path) -> None:
    vocabulary = json.dumps(dict(tokenizer.vocabulary), ensure_ascii=False)
    (folder / VOCABULARY_FILE).write_text(vocabulary, encoding="utf-8")
    (folder / MERGES_FILE).write_text("\n".join(tokenizer.merges) + "\n", encoding="utf-8")


def _last_part(checkpoint: str) -> str:
    return checkpoint.rstrip("/").rsplit("/", 1)[-1]


def _explain(checkpoint: str, folder: Path | None, error: Exception) -> str:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    if folder:
        return f"{folder} cannot be read as a KerasHub GPT-2: {reason}"
    return (
        f"{checkpoint} cannot be fetched: {reason}. Offline, fetch it on another machine, copy its "
        "folder here and give that folder's path"
    )
