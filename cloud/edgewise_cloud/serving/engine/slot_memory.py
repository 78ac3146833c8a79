"""Whether the slots' caches fit into memory, before time is spent on making them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgewise_cloud.errors import ServeError
from edgewise_cloud.keras_models.hugging_face.config import CONFIG_FILE
from edgewise_cloud.serving.engine.settings import EngineKind, EngineSettings, Precision
from edgewise_edge.memory import available_memory

# With an accelerator the caches are in its memory, whose size only the backend knows.
_ACCELERATORS = ("nvidia[0-9]*", "accel*", "kfd", "vfio/[0-9]*")
# In Hugging Face's config.json, and in KerasHub's.
_NAMES = (
    ("n_layer", "num_layers"),
    ("n_embd", "hidden_dim"),
    ("n_positions", "max_sequence_length"),
)


def require_slot_memory(folders: Sequence[Path], settings: EngineSettings) -> None:
    """Raise ServeError for more slots of each checkpoint in `folders` than memory can hold."""
    shapes = [shape for folder in folders if (shape := _shape(folder))]
    available = available_memory()
    on_accelerator = settings.kind == EngineKind.KERAS and _has_accelerator()
    if not shapes or available is None or on_accelerator:
        return
    halved = settings.dtype == Precision.BFLOAT16 or settings.kind == EngineKind.LITERT
    size = 2 if halved else 4
    # Keys and values.
    caches = [2 * layers * width * window * size for layers, width, window in shapes]
    slot = sum(caches)
    if settings.slots * slot > available:
        most = available // slot
        each = " and ".join(
            f"{cache / 1e6:,.1f} MB each: {layers} layers of {width} for {window} tokens"
            for cache, (layers, width, window) in zip(caches, shapes, strict=True)
        )
        raise ServeError(
            f"--slots is {settings.slots}; their caches would take {settings.slots * slot / 1e9:,.1f} GB "
            f"({each}), and {available / 1e9:,.1f} GB are available; "
            + (f"give at most {most}" if most else "free some, or serve a smaller model")
        )


def _shape(folder: Path) -> tuple[int, int, int] | None:
    """Layers, width and context window, or None if its config does not say so plainly."""
    config: dict[str, Any] = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    inner = config.get("config")
    config = inner if isinstance(inner, dict) else config
    layers, width, window = (
        next((config[name] for name in names if name in config), None) for names in _NAMES
    )
    if isinstance(layers, int) and isinstance(width, int) and isinstance(window, int):
        return layers, width, window
    return None


def _has_accelerator(devices: Path = Path("/dev")) -> bool:
    return any(any(devices.glob(pattern)) for pattern in _ACCELERATORS)
