"""Finding a model by name or path."""

from pathlib import Path

from edgewise_edge.errors import ModelNotFoundError
from edgewise_edge.store.active import installed_folders, is_name
from edgewise_edge.store.manifest import MANIFEST_FILE

BUNDLED = Path(__file__).parents[1] / "models"


def bundled_models() -> list[str]:
    """The names of the models that ship with this package."""
    return sorted(path.parent.name for path in BUNDLED.glob(f"*/{MANIFEST_FILE}"))


def find_model(model: str | Path) -> Path:
    """The folder of an installed or bundled model by its name, or the folder at a path.

    Of an installed model it is the active revision's. Raises ModelNotFoundError.
    """
    return find_folders(model)[0]


def find_folders(model: str | Path) -> list[Path]:
    """What find_model() finds, and what to use in its place where that is damaged, best first."""
    if isinstance(model, str) and is_name(model):
        bundled = [BUNDLED / model] if model in bundled_models() else []
        if folders := [*installed_folders(model), *bundled]:
            return folders
    try:
        folder = Path(model).expanduser()
        found = folder.is_dir()
    except (OSError, RuntimeError, ValueError):  # too long, no such home, a null byte
        found = False
    if not found:
        raise ModelNotFoundError(
            f"'{model}' is neither a bundled model nor a folder, and is not installed; bundled: "
            f"{', '.join(bundled_models()) or 'none'}"
        )
    return [folder]
