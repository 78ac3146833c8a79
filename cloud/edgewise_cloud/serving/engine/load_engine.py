"""From a model's name to a running engine. TensorFlow is imported here, where Keras computes."""

import gc
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from edgewise_cloud.console import SILENT, Progress
from edgewise_cloud.keras_models.find import find_checkpoint, is_keras_preset
from edgewise_cloud.keras_models.import_tensorflow import import_tensorflow
from edgewise_cloud.serving.engine.settings import EngineKind, EngineSettings
from edgewise_cloud.serving.engine.slot_memory import require_slot_memory

if TYPE_CHECKING:
    from edgewise_cloud.serving.engine.engine import Engine
    from edgewise_cloud.serving.engine.request import ServedModel
    from edgewise_cloud.serving.model.interface import Programs


def load_engine(checkpoint: str, settings: EngineSettings, progress: Progress = SILENT) -> "Engine":
    """The model of `checkpoint`, running. Raises CheckpointError and ServeError."""
    if settings.kind == EngineKind.KERAS:
        from edgewise_cloud.serving.model.program_cache import use_program_cache

        use_program_cache()
    model, programs = load_model(checkpoint, settings, progress)
    from edgewise_cloud.serving.engine.engine import Engine

    engine = Engine(model, programs, settings)
    folder = _plain_folder(checkpoint)
    if folder and settings.kind == EngineKind.KERAS:
        _start_checked(engine, programs, folder, settings, progress)
    else:  # load_keras has compared it, or the conversion has
        engine.start(progress)
    return engine


def load_model(
    checkpoint: str, settings: EngineSettings, progress: Progress = SILENT
) -> "tuple[ServedModel, Programs]":
    """The model of `checkpoint`, and its programs, not compiled yet.

    Raises CheckpointError, and ServeError for slots that do not fit into memory.
    """
    folder, plain = find_checkpoint(checkpoint), _plain_folder(checkpoint)
    if folder:
        require_slot_memory([folder], settings)
    if settings.kind == EngineKind.LITERT:
        from edgewise_cloud.serving.engine.load_litert import load_litert_model

        return load_litert_model(checkpoint, settings.slots, progress)
    import_tensorflow(progress, hub=not plain)
    progress.step(f"loading {checkpoint}")
    if plain:
        return _read_model(plain, settings)
    return _load_keras_model(checkpoint, settings)


def _plain_folder(checkpoint: str) -> Path | None:
    """A folder in Hugging Face's layout, which is read without a Keras model; None for all else."""
    folder = find_checkpoint(checkpoint)
    return folder if folder and not is_keras_preset(folder) else None


def _read_model(folder: Path, settings: EngineSettings) -> "tuple[ServedModel, Programs]":
    """A tensor at a time: the weights are in memory once."""
    from edgewise_cloud.keras_models.read import read_checkpoint
    from edgewise_cloud.serving.engine.request import ServedModel
    from edgewise_cloud.serving.model.programs import CompiledPrograms

    read = read_checkpoint(folder)
    served = ServedModel(
        name=read.name,
        revision=read.revision,
        tokenizer=read.tokenizer,
        architecture=read.config.architecture,
    )
    programs = CompiledPrograms(read.tensors, served.architecture, settings.slots, settings.dtype)
    return served, programs


def _load_keras_model(checkpoint: str, settings: EngineSettings) -> "tuple[ServedModel, Programs]":
    from edgewise_cloud.keras_models.checkpoint import weights
    from edgewise_cloud.keras_models.load import load_keras
    from edgewise_cloud.serving.engine.request import ServedModel
    from edgewise_cloud.serving.model.programs import CompiledPrograms

    with tempfile.TemporaryDirectory() as workspace:
        model = load_keras(checkpoint, Path(workspace))
    served = ServedModel(
        name=model.name,
        revision=model.revision,
        tokenizer=model.tokenizer,
        architecture=model.architecture,
    )
    values = weights(model.backbone)
    # TensorFlow does not return memory: what Keras held can serve the programs only if it is freed
    # first.
    del model
    gc.collect()
    return served, CompiledPrograms(values, served.architecture, settings.slots, settings.dtype)


def _start_checked(
    engine: "Engine",
    programs: "Programs",
    folder: Path,
    settings: EngineSettings,
    progress: Progress,
) -> None:
    """Start it, and raise CheckpointError unless its logits are those of a NumPy forward pass."""
    import numpy as np

    from edgewise_cloud.keras_models.forward import expected_logits, probe_tokens, require_close
    from edgewise_cloud.keras_models.hugging_face.config import GPT2Config
    from edgewise_cloud.keras_models.hugging_face.tensors import CheckpointTensors

    config, name = GPT2Config.read(folder), str(folder)
    with ThreadPoolExecutor(1) as pool:  # while programs are compiled
        expected = pool.submit(expected_logits, CheckpointTensors(folder, config), config, name)
        engine.start(progress)
    try:
        shortest = programs.layout.contexts[0]
        rows = [
            programs.decode([token], [at], shortest)[0]
            for at, token in enumerate(probe_tokens(config).tolist())
        ]
        require_close(np.stack(rows), expected.result(), settings.dtype, name)
    except BaseException:
        engine.close()
        raise
