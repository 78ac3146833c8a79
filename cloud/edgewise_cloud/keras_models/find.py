"""Finding a checkpoint by name, before TensorFlow is imported to load it."""

import json
from pathlib import Path

from edgewise_cloud.errors import CheckpointError
from edgewise_edge import find_model
from edgewise_edge.decoding.tokenizer import TOKENIZER_FILES, Tokenizer
from edgewise_edge.errors import EdgeError
from edgewise_edge.store.catalog import bundled_models
from edgewise_edge.store.manifest import MANIFEST_FILE, Manifest

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
CHECKPOINT_FILES = (CONFIG_FILE, WEIGHTS_FILE)
PRESET_PREFIX = "gpt2_"  # of KerasHub's presets


def find_checkpoint(checkpoint: str) -> Path | None:
    """The folder of `checkpoint`, a bundled model or a path; None for what KerasHub must fetch.

    Raises CheckpointError for a name that can be neither, and for a folder without a Keras GPT-2.
    """
    if checkpoint in bundled_models() or Path(checkpoint).expanduser().is_dir():
        folder = find_model(checkpoint)
        _check_config(folder)
        return folder
    if "://" in checkpoint or checkpoint.startswith(PRESET_PREFIX):
        return None
    raise CheckpointError(
        f"'{checkpoint}' is no bundled model ({', '.join(bundled_models())}), no folder, and no "
        "GPT-2 preset; give one of those: presets are KerasHub's, such as gpt2_base_en, or "
        "hf://USER/MODEL"
    )


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


def read_vocabulary(folder: Path) -> tuple[Tokenizer, int] | None:
    """A checkpoint's vocabulary and context window, where TensorFlow need not read them.

    None for other layouts than Hugging Face's, and for files that are damaged: loading says how.
    """
    window = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8")).get("n_positions")
    if not isinstance(window, int) or not all((folder / name).exists() for name in TOKENIZER_FILES):
        return None
    try:
        return Tokenizer.from_folder(folder), window
    except EdgeError:
        return None


def _check_config(folder: Path) -> None:
    """Raise CheckpointError before KerasHub fails less clearly."""
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
