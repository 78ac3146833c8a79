"""The LiteRT engine's model: converted once, then loaded without TensorFlow."""

import logging
import os
from typing import TYPE_CHECKING

from edgewise_cloud.console import Progress
from edgewise_cloud.errors import ServeError
from edgewise_cloud.serving.litert.kernel import require_kernel
from edgewise_cloud.serving.litert.prepare import PreparedModel, prepared
from edgewise_edge.decoding.tokenizer import Tokenizer
from edgewise_edge.errors import EdgeError
from edgewise_edge.runtime.load import load_runtime
from edgewise_edge.runtime.session import Runtime
from edgewise_edge.store.manifest import MODEL_FILE
from edgewise_edge.store.weight_cache import WeightCache, default_folder

if TYPE_CHECKING:
    from edgewise_cloud.serving.engine.request import ServedModel
    from edgewise_cloud.serving.model.interface import Programs

log = logging.getLogger("edgewise_cloud.serving.engine")


def load_litert_model(
    checkpoint: str, slots: int, progress: Progress
) -> "tuple[ServedModel, Programs]":
    """The model of `checkpoint` in 8 bits, and its programs.

    Raises CheckpointError, ConversionError and ServeError.
    """
    from edgewise_cloud.serving.engine.request import ServedModel
    from edgewise_cloud.serving.litert.programs import LiteRTPrograms

    require_kernel()
    with prepared(checkpoint, progress) as model:
        progress.step(f"loading {checkpoint}")
        try:
            runtime, tokenizer = _runtime(model), Tokenizer.from_folder(model.folder)
        except EdgeError as error:
            raise ServeError(f"--engine litert cannot load {checkpoint}: {error}") from error
    log.info("%s", agreement(model))
    served = ServedModel(
        name=model.name,
        revision=model.revision,
        tokenizer=tokenizer,
        architecture=runtime.architecture,
        engine="litert",
    )
    return served, LiteRTPrograms(runtime.backend, runtime.architecture, slots)


def agreement(model: PreparedModel) -> str:
    """A sentence about what the 8 bits change, as the conversion measured it."""
    found = model.manifest.conversion
    return (
        f"{model.name} in 8 bits finds the same likeliest token as Keras at "
        f"{found['top1_agreement']:.1%} of {found['tokens']:,} positions, and needs "
        f"{found['lost']:+.2%} bits per byte"
    )


def _runtime(model: PreparedModel) -> Runtime:
    record = model.manifest.files[MODEL_FILE]
    cache = WeightCache(default_folder(), record)
    return load_runtime(model.folder, model.manifest.architecture, _threads(), cache)


def _threads() -> int:
    """A thread for each processor: many rows are bound by arithmetic, unlike a device's one."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
