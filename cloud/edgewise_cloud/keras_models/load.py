"""Loading a Keras GPT-2 by name: a bundled model, a folder, or what a hub has."""

from dataclasses import dataclass
from pathlib import Path

from keras_hub.models import GPT2Backbone, GPT2Tokenizer
from keras_hub.src.utils.preset_utils import get_file

from edgewise_cloud.errors import CheckpointError
from edgewise_cloud.keras_models.checkpoint import assign_weights, weights
from edgewise_cloud.keras_models.find import (
    HUB_PREFIX,
    PRESET_PREFIX,
    check_checkpoint,
    find_checkpoint,
    is_keras_preset,
    model_name,
    read_manifest,
)
from edgewise_cloud.keras_models.forward import require_same_logits
from edgewise_cloud.keras_models.generation_config import read_sampling
from edgewise_cloud.keras_models.hub import fetch_checkpoint
from edgewise_cloud.keras_models.hugging_face.config import CONFIG_FILE, GPT2Config
from edgewise_cloud.keras_models.hugging_face.tensors import CheckpointTensors
from edgewise_cloud.keras_models.hugging_face.vocabulary import Vocabulary, read_vocabulary
from edgewise_cloud.keras_models.read import make_tokenizer
from edgewise_edge.decoding.tokenizer import Tokenizer
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
        return GPT2Config.of(self.backbone).architecture


def load_keras(checkpoint: str, workspace: Path, *, dtype: str = "float32") -> KerasModel:
    """Load `checkpoint`: a bundled model, a folder, or what KerasHub or Hugging Face's hub has.

    The vocabulary's files are written to `workspace`. The model's logits are compared with those of
    a plain NumPy forward pass over the checkpoint's tensors. Raises CheckpointError.
    """
    folder = find_checkpoint(checkpoint) or _fetched(checkpoint)
    manifest = read_manifest(folder) if folder else None
    if folder and not is_keras_preset(folder):
        backbone, vocabulary = _from_folder(folder, dtype)
    else:
        backbone, vocabulary = _from_preset(checkpoint, folder, dtype)
    tokenizer = make_tokenizer(checkpoint, vocabulary, backbone.vocabulary_size, workspace)
    return KerasModel(
        name=model_name(checkpoint, folder),
        revision=manifest.revision if manifest else "unversioned",
        backbone=backbone,
        tokenizer=tokenizer,
        sampling=_sampling(folder, manifest),
    )


def _fetched(checkpoint: str) -> Path | None:
    """The folder with what was fetched; None for what KerasHub fetches itself."""
    if not checkpoint.startswith(HUB_PREFIX):
        return None
    try:
        folder = fetch_checkpoint(checkpoint)
    except CheckpointError:
        raise
    except Exception as error:  # hubs raise errors of many libraries: too many to list
        raise CheckpointError(_explain(checkpoint, None, error)) from error
    if folder:
        check_checkpoint(folder)
    return folder


def _from_folder(folder: Path, dtype: str) -> tuple[GPT2Backbone, Vocabulary]:
    """From Hugging Face's layout. KerasHub's reader takes another activation for GPT-2's, say."""
    config = GPT2Config.read(folder)
    sizes = config.architecture
    tensors = CheckpointTensors(folder, config)
    tensors.require_tied()
    backbone = GPT2Backbone(
        vocabulary_size=sizes.vocabulary_size,
        num_layers=sizes.layers,
        num_heads=sizes.heads,
        hidden_dim=sizes.width,
        intermediate_dim=config.inner,
        dropout=config.dropout,
        max_sequence_length=sizes.context_window,
        dtype=dtype,
    )
    assign_weights(backbone, tensors)
    require_same_logits(backbone, tensors, config, str(folder))
    return backbone, read_vocabulary(folder)


def _from_preset(
    checkpoint: str, folder: Path | None, dtype: str
) -> tuple[GPT2Backbone, Vocabulary]:
    """From KerasHub's own layout."""
    if (
        checkpoint.startswith(PRESET_PREFIX)
        and not folder
        and checkpoint not in GPT2Backbone.presets
    ):
        raise CheckpointError(
            f"'{checkpoint}' is no GPT-2 preset; presets are {', '.join(GPT2Backbone.presets)}"
        )
    preset = str(folder or checkpoint)
    try:
        if not folder:
            _require_keras_layout(checkpoint)
        backbone = GPT2Backbone.from_preset(preset, dtype=dtype)
        tokenizer = GPT2Tokenizer.from_preset(preset)
    except CheckpointError:
        raise
    except Exception as error:  # as in _fetched(), and file formats have their own, too
        raise CheckpointError(_explain(checkpoint, folder, error)) from error
    require_same_logits(backbone, weights(backbone), GPT2Config.of(backbone), checkpoint)
    return backbone, Vocabulary(dict(tokenizer.vocabulary), list(tokenizer.merges))


def _require_keras_layout(address: str) -> None:
    """Raise CheckpointError for another layout, or model, at an address that KerasHub fetches.

    KerasHub reads Hugging Face's layout too, but ignores fields that change the mathematics.
    """
    if not is_keras_preset(Path(get_file(address, CONFIG_FILE)).parent):
        raise CheckpointError(
            f"{address} is in Hugging Face's layout, which is read from a folder or hf://USER/MODEL: "
            "download it, and give its folder"
        )


def _sampling(folder: Path | None, manifest: Manifest | None) -> dict[str, float]:
    if manifest:
        return manifest.sampling
    return read_sampling(folder) if folder else {}


def _explain(checkpoint: str, folder: Path | None, error: Exception) -> str:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    if folder:
        return f"{folder} cannot be read as a KerasHub GPT-2: {reason}"
    return (
        f"{checkpoint} cannot be fetched: {reason}. Offline, fetch it on another machine, copy its "
        "folder here and give that folder's path"
    )
