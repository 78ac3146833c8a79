"""Several models in one service: told apart by their vocabularies, each with slots of its own."""

import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from edgewise_cloud.console import Progress
from edgewise_cloud.errors import ServeError
from edgewise_cloud.keras_models.find import find_checkpoint, find_tokenizer
from edgewise_cloud.serving.engine.settings import EngineKind, EngineSettings
from edgewise_cloud.serving.engine.slot_memory import require_slot_memory

if TYPE_CHECKING:
    from edgewise_cloud.serving.engine.engine import Engine

Load: TypeAlias = "Callable[[str, EngineSettings, Progress], Engine]"

log = logging.getLogger("edgewise_cloud.serving.engine")


def check_models(checkpoints: Sequence[str], settings: EngineSettings) -> None:
    """Raise CheckpointError for one that is not there, ServeError for several that exclude each other,
    and for an engine that cannot run here.

    What only a loaded model tells is checked when it is loaded.
    """
    folders = [find_checkpoint(checkpoint) for checkpoint in checkpoints]
    if settings.kind == EngineKind.LITERT:
        from edgewise_cloud.serving.litert.kernel import require_kernel

        require_kernel()
    if len(folders) > 1:
        require_slot_memory([folder for folder in folders if folder], settings)
        _require_different(zip(checkpoints, map(_fingerprint, folders), strict=True))


def load_engines(
    checkpoints: Sequence[str], settings: EngineSettings, progress: Progress, load: "Load"
) -> "tuple[Engine, ...]":
    """The engines of all models, running. Raises CheckpointError and ServeError."""
    if len(checkpoints) == 1:
        return (load(checkpoints[0], settings, progress),)
    engines: list[Engine] = []
    try:
        for checkpoint in checkpoints:
            engines.append(load(checkpoint, settings, _OfModel(progress, checkpoint)))
            log.info("%s is loaded; the service takes %.2f GB", checkpoint, _memory() / 1e9)
            prints = [engine.model.tokenizer.fingerprint for engine in engines]
            _require_different(zip(checkpoints, prints, strict=False))
    except BaseException:
        for engine in engines:
            engine.close()
        raise
    return tuple(engines)


def _require_different(fingerprints: Iterable[tuple[str, str | None]]) -> None:
    seen: dict[str, str] = {}
    for checkpoint, fingerprint in fingerprints:
        if fingerprint is None:
            continue
        if fingerprint in seen:
            raise ServeError(
                f"--model {seen[fingerprint]} and --model {checkpoint} have the same vocabulary, by "
                "which requests choose their model; serve one of them here, and the other by a "
                "service of its own"
            )
        seen[fingerprint] = checkpoint


def _fingerprint(folder: Path | None) -> str | None:
    """None where it is known only once the model is loaded."""
    found = find_tokenizer(folder) if folder else None
    return found[0].fingerprint if found else None


def _memory() -> int:
    """Bytes of this process that are in memory."""
    import psutil  # takes 10 ms

    return int(psutil.Process().memory_info().rss)


class _OfModel:
    """Progress that says which model it is about."""

    def __init__(self, progress: Progress, checkpoint: str) -> None:
        self._progress, self._name = progress, checkpoint.rstrip("/").rpartition("/")[2]

    def step(self, text: str) -> None:
        """See Progress."""
        self._progress.step(f"{self._name}: {text}")

    def count(self, done: int, total: int, note: str = "") -> None:
        """See Progress."""
        self._progress.count(done, total, note)
