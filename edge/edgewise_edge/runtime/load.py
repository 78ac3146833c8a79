"""Loading the model of a folder with prepared weights."""

from contextlib import suppress
from functools import partial
from pathlib import Path

from edgewise_edge.errors import ModelIncompatibleError
from edgewise_edge.runtime.session import Runtime
from edgewise_edge.store.manifest import MODEL_FILE, Architecture
from edgewise_edge.store.weight_cache import WeightCache


def load_runtime(
    folder: Path, architecture: Architecture, threads: int, cache: WeightCache
) -> Runtime:
    """Load with prepared weights, or write them for the next load. Raises as Runtime.load()."""
    load = partial(Runtime.load, folder / MODEL_FILE, architecture, threads)
    if cache.is_valid():
        with suppress(ModelIncompatibleError), cache.loading():
            return load(cache.path)
    with suppress(ModelIncompatibleError), cache.writing() as path:
        return load(path)
    return load(None)
