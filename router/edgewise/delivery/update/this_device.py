"""What this device has: the model of a name that is used now, versions, memory; and trials on it."""

from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from edgewise.delivery.update.check import Device
from edgewise_edge.errors import ModelError
from edgewise_edge.installed.evaluation import EVALUATION_FILE
from edgewise_edge.installed.store import ModelStore
from edgewise_edge.memory import total_memory
from edgewise_edge.store.catalog import BUNDLED, bundled_models
from edgewise_edge.store.manifest import Manifest

_DISTRIBUTIONS = {"edgewise": "edgewise", "litert": "ai-edge-litert"}


def folders_of(store: ModelStore, name: str) -> list[Path]:
    """The model folders of that name: the one in use first, and the bundled one."""
    active = store.active_folder(name)
    bundled = [BUNDLED / name] if name in bundled_models() else []
    return [*([active] if active else []), *bundled]


def in_use(store: ModelStore, name: str) -> Manifest | None:
    """The manifest of what a load would use now; None: the model is not on this device."""
    for folder in folders_of(store, name):
        with suppress(ModelError):
            return Manifest.read(folder)
    return None


def this_device(store: ModelStore, used: Manifest | None) -> Device:
    """With `used`, the model of that name that is here."""
    return Device(
        memory=total_memory(),
        versions=_versions(),
        device_id=store.device_id,
        vocabulary=used.vocabulary if used else None,
    )


def _versions() -> Mapping[str, str]:
    found = {}
    for name, distribution in _DISTRIBUTIONS.items():
        with suppress(PackageNotFoundError):
            found[name] = version(distribution)
    return found


def try_as_loaded(folder: Path, threads: int | None) -> None:
    """As the router will load it. Raises ModelIncompatibleError or ModelRefusedError."""
    from edgewise_edge.model import default_threads
    from edgewise_edge.store.weight_cache import default_folder
    from edgewise_edge.trial import try_model

    evaluation = folder / EVALUATION_FILE
    gate = evaluation if evaluation.is_file() else None
    try_model(folder, threads or default_threads(), default_folder(), gate)
