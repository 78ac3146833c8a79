"""Reading a JSON object from a checkpoint's folder."""

import json
from pathlib import Path
from typing import Any

from edgewise_cloud.errors import CheckpointError


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in the file at `path`. Raises CheckpointError."""
    if not path.is_file():  # opening a pipe would wait for a writer
        raise CheckpointError(f"{path} is missing, or is no file")
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{path} is not a JSON object")
    return found
