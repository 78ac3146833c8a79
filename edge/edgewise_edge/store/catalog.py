"""Finding a model by name or path."""

from pathlib import Path

from edgewise_edge.checks import shown
from edgewise_edge.errors import ModelNotFoundError
from edgewise_edge.store.manifest import MANIFEST_FILE

BUNDLED = Path(__file__).parents[1] / "models"


def bundled_models() -> list[str]:
    """The names of the models that ship with this package."""
    return sorted(path.parent.name for path in BUNDLED.glob(f"*/{MANIFEST_FILE}"))


def find_model(model: str | Path) -> Path:
    """The folder of a bundled model, or the folder at a path. Raises ModelNotFoundError."""
    if isinstance(model, str) and model in bundled_models():
        return BUNDLED / model
    try:
        folder = Path(model).expanduser().absolute()  # a later chdir changes nothing
        found = folder.is_dir()
    except TypeError as error:
        raise ModelNotFoundError(
            f"model is {shown(model)}; it must be a bundled model's name or the path of a folder"
        ) from error
    except (OSError, RuntimeError, ValueError):  # too long, no such home, a null byte, no cwd
        found = False
    if not found:
        raise ModelNotFoundError(
            f"'{model}' is neither a bundled model nor a folder; bundled: "
            f"{', '.join(bundled_models()) or 'none'}"
        )
    return folder
