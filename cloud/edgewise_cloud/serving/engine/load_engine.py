"""From a model's name to a running engine. TensorFlow is imported here, when it is called."""

import gc
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from edgewise_cloud.console import SILENT, Progress
from edgewise_cloud.keras_models.find import find_checkpoint
from edgewise_cloud.keras_models.import_tensorflow import import_tensorflow
from edgewise_cloud.serving.engine.settings import EngineSettings
from edgewise_cloud.serving.engine.slot_memory import require_slot_memory

if TYPE_CHECKING:
    from edgewise_cloud.serving.engine.engine import Engine
    from edgewise_cloud.serving.engine.request import ServedModel
    from edgewise_cloud.serving.model.interface import Programs


def load_engine(checkpoint: str, settings: EngineSettings, progress: Progress = SILENT) -> "Engine":
    """The model of `checkpoint`, running. Raises CheckpointError and ServeError."""
    from edgewise_cloud.serving.model.program_cache import use_program_cache

    use_program_cache()
    model, programs = load_model(checkpoint, settings, progress)
    from edgewise_cloud.serving.engine.engine import Engine

    engine = Engine(model, programs, settings)
    engine.start(progress)
    return engine


def load_model(
    checkpoint: str, settings: EngineSettings, progress: Progress = SILENT
) -> "tuple[ServedModel, Programs]":
    """The model of `checkpoint`, and its programs, not compiled yet.

    Raises CheckpointError, and ServeError for slots that do not fit into memory.
    """
    folder = find_checkpoint(checkpoint)
    if folder:
        require_slot_memory([folder], settings)
    import_tensorflow(progress)
    from edgewise_cloud.keras_models.checkpoint import weights
    from edgewise_cloud.keras_models.load import load_keras
    from edgewise_cloud.serving.engine.request import ServedModel
    from edgewise_cloud.serving.model.programs import CompiledPrograms

    progress.step(f"loading {checkpoint}")
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
