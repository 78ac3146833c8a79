"""The recommended sampling settings of a checkpoint: Hugging Face's `generation_config.json`."""

import json
from collections.abc import Mapping
from pathlib import Path

from edgewise_cloud.errors import CheckpointError
from edgewise_cloud.files import atomic_write
from edgewise_edge.decoding.sampling_params import sampling_params
from edgewise_edge.errors import RequestError

GENERATION_CONFIG_FILE = "generation_config.json"
SETTINGS = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")


def save_sampling(sampling: Mapping[str, float], folder: Path) -> None:
    """Write the settings to `folder`; without any, there is no file afterwards. Raises OSError."""
    if not sampling:
        (folder / GENERATION_CONFIG_FILE).unlink(missing_ok=True)
        return
    config = {"do_sample": sampling.get("temperature") != 0, **sampling}
    with atomic_write(folder / GENERATION_CONFIG_FILE) as partial:
        partial.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def read_sampling(folder: Path) -> dict[str, float]:
    """The settings in `folder`; {} where there are none. Raises CheckpointError for invalid ones."""
    path = folder / GENERATION_CONFIG_FILE
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        found = {name: config[name] for name in SETTINGS if config.get(name) is not None}
        sampling_params(found, {})
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError, RequestError) as error:
        raise CheckpointError(
            f"{path} cannot be used: {error}; correct it, or remove it"
        ) from error
    return found
