"""Finding a checkpoint by name, and checking it before TensorFlow is imported to load it."""

import re
from pathlib import Path

from edgewise_cloud.errors import CheckpointError
from edgewise_cloud.keras_models.hugging_face.config import CONFIG_FILE, GPT2Config
from edgewise_cloud.keras_models.hugging_face.json_file import read_object
from edgewise_cloud.keras_models.hugging_face.tensors import (
    INDEX_FILE,
    WEIGHTS_FILE,
    CheckpointTensors,
)
from edgewise_cloud.keras_models.hugging_face.vocabulary import read_vocabulary
from edgewise_cloud.keras_models.other_formats import advice, advice_on_folder
from edgewise_edge import find_model
from edgewise_edge.decoding.tokenizer import TOKENIZER_FILES, Tokenizer
from edgewise_edge.errors import EdgeError, ModelNotFoundError
from edgewise_edge.store.catalog import bundled_models
from edgewise_edge.store.manifest import MANIFEST_FILE, Manifest

CHECKPOINT_FILES = (CONFIG_FILE, WEIGHTS_FILE)
PRESET_PREFIX = "gpt2_"  # of KerasHub's presets
HUB_PREFIX = "hf://"
KERAS_HUB_PREFIXES = ("kaggle://", "gs://", "modelscope://")
# What people call the models that OpenAI and others published on Hugging Face's hub.
ON_THE_HUB = {
    **{
        name: f"openai-community/{name}"
        for name in ("gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl")
    },
    "distilgpt2": "distilbert/distilgpt2",
}
_HUB_ADDRESS = re.compile(r"(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/([\w.-]+/[\w.-]+)")
_HUB_NAME = re.compile(r"(?:hf:/?|models/)?(\w[\w.-]*/\w[\w.-]*)")


def find_checkpoint(checkpoint: str) -> Path | None:
    """The folder of `checkpoint`, a bundled model or a path; None for what must be fetched.

    Raises CheckpointError for a name that can be neither, and for a folder without a GPT-2 that can
    be loaded.
    """
    try:
        folder = find_model(checkpoint)
    except ModelNotFoundError as error:
        if checkpoint.startswith((HUB_PREFIX, *KERAS_HUB_PREFIXES, PRESET_PREFIX)):
            return None
        raise CheckpointError(_explain(checkpoint)) from error
    check_checkpoint(folder)
    return folder


def check_checkpoint(folder: Path) -> None:
    """Raise CheckpointError unless `folder` has config, tensors and vocabulary of a GPT-2.

    The values of the tensors are read only when they are loaded.
    """
    try:
        _check_files(folder)
    except OSError as error:  # of permissions, for example
        raise CheckpointError(f"{folder} cannot be read: {error.strerror or error}") from error


def _check_files(folder: Path) -> None:
    if not (folder / CONFIG_FILE).exists():
        raise CheckpointError(
            f"{folder} holds no Keras model: "
            + (
                advice_on_folder(folder)
                or f"it has no {CONFIG_FILE} (a device model alone cannot be served or converted "
                "again)"
            )
        )
    if is_keras_preset(folder):
        return
    config = GPT2Config.read(folder)
    if not any((folder / name).exists() for name in (WEIGHTS_FILE, INDEX_FILE)):
        reason = advice_on_folder(folder) or "copy it from where the model was trained"
        raise CheckpointError(f"{folder} has no {WEIGHTS_FILE}: {reason}")
    CheckpointTensors(folder, config)
    read_vocabulary(folder)


def is_keras_preset(folder: Path) -> bool:
    """Whether `folder` is in KerasHub's own layout. Raises CheckpointError for another model's."""
    config = read_object(folder / CONFIG_FILE)
    name = config.get("registered_name")
    if name is not None and str(name).rpartition(">")[2] != "GPT2Backbone":
        raise CheckpointError(f"{folder} holds a '{name}'; only GPT-2 is supported")
    return name is not None


def model_name(checkpoint: str, folder: Path | None) -> str:
    """What a model is called whose checkpoint is in `folder` (None: KerasHub has it)."""
    if folder and "://" not in checkpoint:
        return folder.name
    return checkpoint.rstrip("/").rsplit("/", 1)[-1]


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a checkpoint's folder, if it has one, with its files verified.

    Raises CheckpointError.
    """
    if not (folder / MANIFEST_FILE).exists():
        return None
    try:
        manifest = Manifest.read(folder)
        manifest.verify(folder, [*CHECKPOINT_FILES, *TOKENIZER_FILES])
    except EdgeError as error:
        raise CheckpointError(str(error)) from error
    return manifest


def _explain(checkpoint: str) -> str:
    if on_hub := _on_hub(checkpoint):
        return f"'{checkpoint}' is no folder here; if you mean the model on the hub, give {on_hub}"
    if _is_file(checkpoint):
        found = advice(Path(checkpoint)) or f"give a folder with {CONFIG_FILE} and {WEIGHTS_FILE}"
        return f"'{checkpoint}' is a file, not a checkpoint's folder; {found}"
    return (
        f"'{checkpoint}' is no bundled model ({', '.join(bundled_models())}), no folder, and no "
        "GPT-2 preset; give one of those: presets are KerasHub's, such as gpt2_base_en, or "
        "hf://USER/MODEL"
    )


def _on_hub(checkpoint: str) -> str | None:
    """The address of what `checkpoint` means, if it means something on Hugging Face's hub."""
    if name := ON_THE_HUB.get(checkpoint.lower()):
        return HUB_PREFIX + name
    found = _HUB_ADDRESS.match(checkpoint) or _HUB_NAME.fullmatch(checkpoint)
    return HUB_PREFIX + found[1] if found and not _is_file(checkpoint) else None


def _is_file(checkpoint: str) -> bool:
    try:
        return Path(checkpoint).expanduser().is_file()
    except (OSError, RuntimeError, ValueError):  # too long, no such home, a null byte
        return False


def find_tokenizer(folder: Path) -> tuple[Tokenizer, int] | None:
    """A checkpoint's tokenizer and context window, where TensorFlow need not read them.

    None for other layouts than Hugging Face's, and for files that are damaged: loading says how.
    """
    try:
        window = read_object(folder / CONFIG_FILE).get("n_positions")
        if isinstance(window, int):
            return Tokenizer.from_folder(folder), window
    except (CheckpointError, EdgeError):
        pass
    return None
