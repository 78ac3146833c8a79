"""Another revision of the bundled model: what a little training would make of its weights."""

import json
from pathlib import Path

import numpy as np
from ai_edge_litert.schema_py_generated import Model

from edgewise_edge.store.manifest import MODEL_FILE
from tests.support.damaged_folder import copied_model, replace_model

_WEIGHTS = 2**16  # bytes of a buffer; smaller ones hold scales and sizes


def revised_model(folder: Path, *, spread: float, every: int = 1) -> Path:
    """The bundled model's device files in `folder`, its int8 weights moved by `spread` steps.

    With `every`, only those of each `every`th matrix.
    """
    path = copied_model(folder) / MODEL_FILE
    data = bytearray(path.read_bytes())
    draw = np.random.default_rng(1)
    for first, length in _buffers(bytes(data))[::every]:
        weights = np.frombuffer(data, np.int8, length, first)
        moved = weights + np.rint(draw.normal(0, spread, length)).astype(np.int32)
        weights[:] = np.clip(moved, -127, 127)
    replace_model(folder, bytes(data))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["revision"] = manifest["files"][MODEL_FILE]["sha256"][:12]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def _buffers(data: bytes) -> list[tuple[int, int]]:
    """Where the weights begin, and their length."""
    model, found = Model.GetRootAs(data, 0), []
    for index in range(model.BuffersLength()):
        table, length = model.Buffers(index)._tab, model.Buffers(index).DataLength()
        if length >= _WEIGHTS:
            found.append((table.Vector(table.Offset(4)), length))
    return found
