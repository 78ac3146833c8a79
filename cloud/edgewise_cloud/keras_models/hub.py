"""Fetching a checkpoint from Hugging Face's hub into the hub's own cache."""

from pathlib import Path

from huggingface_hub import hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import RemoteEntryNotFoundError

from edgewise_cloud.errors import CheckpointError
from edgewise_cloud.keras_models.find import HUB_PREFIX, is_keras_preset
from edgewise_cloud.keras_models.generation_config import GENERATION_CONFIG_FILE
from edgewise_cloud.keras_models.hugging_face.config import CONFIG_FILE
from edgewise_cloud.keras_models.hugging_face.tensors import INDEX_FILE, WEIGHTS_FILE, weight_files
from edgewise_cloud.keras_models.hugging_face.vocabulary import VOCABULARY_SOURCES
from edgewise_cloud.keras_models.other_formats import SAFETENSORS


def fetch_checkpoint(name: str) -> Path | None:
    """The folder with the files of `hf://USER/MODEL`; None for a preset, which KerasHub fetches.

    All files are of one commit. Raises CheckpointError for weights that cannot be used, and the
    hub's own errors.
    """
    repository = name.removeprefix(HUB_PREFIX).strip("/")
    folder = Path(hf_hub_download(repository, CONFIG_FILE)).parent
    if is_keras_preset(folder):
        return None
    for file in (GENERATION_CONFIG_FILE, *VOCABULARY_SOURCES, WEIGHTS_FILE):
        _fetch_if_there(repository, file, folder)
    if not (folder / WEIGHTS_FILE).exists():
        _fetch_if_there(repository, INDEX_FILE, folder)
        for file in weight_files(folder) if (folder / INDEX_FILE).exists() else ():
            _fetch_if_there(repository, file, folder)
        if not (folder / INDEX_FILE).exists():
            recipe = SAFETENSORS.replace("FOLDER", f"'{repository}'", 1)
            raise CheckpointError(f"{name} has no {WEIGHTS_FILE}; {recipe}, and give that folder")
    return folder


def _fetch_if_there(repository: str, file: str, snapshot: Path) -> None:
    commit = snapshot.name
    # The cache also remembers what a commit does not have, so that it can be read offline.
    if try_to_load_from_cache(repository, file, revision=commit) is None:
        try:
            hf_hub_download(repository, file, revision=commit)
        except RemoteEntryNotFoundError:
            return
