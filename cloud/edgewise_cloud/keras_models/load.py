"""Loading a Keras GPT-2 by name: a bundled model, a folder, or a preset that KerasHub fetches."""

import json
from dataclasses import dataclass
from pathlib import Path

from keras_hub.models import GPT2Backbone, GPT2Tokenizer

from edgewise_cloud.errors import CheckpointError
from edgewise_cloud.keras_models.checkpoint import CHECKPOINT_FILES, CONFIG_FILE
from edgewise_edge import find_model
from edgewise_edge.decoding.tokenizer import (
    MERGES_FILE,
    TOKENIZER_FILES,
    VOCABULARY_FILE,
    Tokenizer,
)
from edgewise_edge.errors import EdgeError
from edgewise_edge.store.catalog import bundled_models
from edgewise_edge.store.manifest import MANIFEST_FILE, Architecture, Manifest


@dataclass(frozen=True, slots=True)
class KerasModel:
    """A KerasHub GPT-2 with its vocabulary."""

    name: str
    revision: str
    backbone: GPT2Backbone
    tokenizer: Tokenizer
    sampling: dict[str, float]  # what its makers recommend

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
    folder = _folder(checkpoint)
    preset = str(folder) if folder else checkpoint
    manifest = _check_folder(folder) if folder else None
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
        sampling=manifest.sampling if manifest else {},
    )


def _folder(checkpoint: str) -> Path | None:
    if checkpoint in bundled_models() or Path(checkpoint).expanduser().is_dir():
        return find_model(checkpoint)
    if "://" in checkpoint or checkpoint in GPT2Backbone.presets:
        return None
    raise CheckpointError(
        f"'{checkpoint}' is no bundled model ({', '.join(bundled_models())}), no folder, and no "
        f"GPT-2 preset; presets are {', '.join(GPT2Backbone.presets)}, or hf://USER/MODEL"
    )


def _check_folder(folder: Path) -> Manifest | None:
    """Raise CheckpointError before KerasHub fails less clearly; return the manifest, if any."""
    try:
        config = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{folder} holds no Keras model: it has no readable {CONFIG_FILE} (a device model "
            "alone cannot be served or converted again)"
        ) from error
    if not isinstance(config, dict):
        raise CheckpointError(
            f"{folder} holds no Keras model: its {CONFIG_FILE} is not a JSON object"
        )
    if config.get("model_type", "gpt2") != "gpt2":
        raise CheckpointError(
            f"{folder} holds a '{config['model_type']}' model; only GPT-2 is supported"
        )
    if not (folder / MANIFEST_FILE).exists():
        return None
    try:
        manifest = Manifest.read(folder)
        manifest.verify(folder, [*CHECKPOINT_FILES, *TOKENIZER_FILES])
    except EdgeError as error:
        raise CheckpointError(str(error)) from error
    return manifest


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
