"""Which models may be loaded into this process: those that were verified on this machine before."""

import hashlib
import json
from dataclasses import astuple
from pathlib import Path

from edgewise_edge.store.cache_folder import cache_folder, report_unusable
from edgewise_edge.store.files import is_ours, write_text
from edgewise_edge.store.manifest import MODEL_FILE, Manifest
from edgewise_edge.store.weight_cache import platform_key

# Where the attention kernel is, if it was compiled: with it, other signatures of a model are run.
_KERNELS = Path(__file__).parents[1] / "runtime" / "litert"
_in_this_process: set[str] = set()  # where the cache folder cannot be written to


class PassedModel:
    """A file in the user's cache folder for a model that passed.

    It is named after everything that the outcome depends on: the model's sha256 and sizes, the
    runtime's version, the processor, the attention kernel and the number of threads.
    """

    def __init__(self, manifest: Manifest, threads: int) -> None:
        model = manifest.files[MODEL_FILE]
        kernel = [path.stat().st_size for path in _KERNELS.glob("_attention.so")]
        key = [model.sha256, astuple(manifest.architecture), platform_key(), threads, kernel]
        self.name = hashlib.sha256(json.dumps(key).encode()).hexdigest()

    def __bool__(self) -> bool:
        """Whether it passed."""
        return self.name in _in_this_process or is_ours(self._path)

    def remember(self) -> None:
        """It passed."""
        _in_this_process.add(self.name)
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_text(self._path, "")
        except OSError as error:
            report_unusable(self._path.parent, error)

    @property
    def _path(self) -> Path:
        return cache_folder() / "passed" / self.name
