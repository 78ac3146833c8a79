"""Copies of the bundled model, to be damaged."""

import shutil
from dataclasses import replace
from pathlib import Path

from edgewise_edge import Manifest, find_model
from edgewise_edge.store.manifest import MODEL_FILE, FileRecord


def copied_model(folder: Path) -> Path:
    """The device files of the bundled model in `folder`, which it creates."""
    keras = shutil.ignore_patterns("*.safetensors")
    return Path(shutil.copytree(find_model("tales"), folder, ignore=keras))


def replace_model(folder: Path, content: bytes) -> None:
    """Replace the `.tflite`, and have the manifest say so."""
    manifest, path = Manifest.read(folder), folder / MODEL_FILE
    path.write_bytes(content)
    replace(manifest, files=manifest.files | {MODEL_FILE: FileRecord.of(path)}).write(folder)
