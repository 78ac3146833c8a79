"""Converting a Keras GPT-2 to a device model folder."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from edgewise_cloud.convert.evaluate import PASSAGE, Evaluation, evaluate
from edgewise_cloud.convert.graph import float32_tflite
from edgewise_cloud.convert.quantization import BLOCK, Quantization, Target
from edgewise_cloud.convert.rewrite import WEIGHT_FORMATS, quantize_weights
from edgewise_cloud.errors import ConversionError
from edgewise_cloud.keras_models.checkpoint import CHECKPOINT_FILES, save_checkpoint, weights
from edgewise_cloud.keras_models.load import KerasModel, load_keras
from edgewise_edge.decoding.sampling import sampling_params
from edgewise_edge.decoding.tokenizer import TOKENIZER_FILES
from edgewise_edge.errors import EdgeError
from edgewise_edge.model import default_threads
from edgewise_edge.runtime.session import Runtime
from edgewise_edge.store.manifest import MODEL_FILE, FileRecord, Manifest
from edgewise_edge.trial import try_model

MAX_FILE_SIZE = 2**31  # bytes; a flatbuffer's offsets have 32 bits
MAX_TOKENS = 4096  # of the text that a conversion is evaluated on
# How far a conversion may move the logits: the root mean square over their standard deviation.
# Float32 differs only by rounding; a model in fewer bits that differs by more is broken.
ALLOWED_DIFFERENCE = {
    Quantization.NONE: 1e-3,
    Quantization.FLOAT16: 0.02,
    Quantization.INT8: 0.3,
    Quantization.INT4: 0.8,
}


def convert(
    checkpoint: str,
    out: Path,
    quantization: Quantization,
    target: Target = Target.LITERT,
    *,
    name: str | None = None,
    keras_weights: bool = False,
    sampling: dict[str, float] | None = None,
    documents: list[str] | None = None,
) -> tuple[Manifest, Evaluation]:
    """Convert the Keras model `checkpoint` to a device model folder `out`, and evaluate it.

    `keras_weights` adds the Keras weights (float16), so that the cloud can serve the folder too.
    `sampling` overrides the settings that the checkpoint recommends. The evaluation reads the first
    tokens of `documents`, or a passage of our own. `out` is written atomically. Raises
    CheckpointError, TextError, ConversionError or, for invalid `sampling`, RequestError.
    """
    if quantization is not Quantization.NONE and (quantization, target) not in WEIGHT_FORMATS:
        raise ConversionError(
            f"{target} cannot run {quantization} models; give another --quantize or --target"
        )
    sampling_params({}, sampling or {})
    with _atomic_folder(out) as folder:
        model = load_keras(checkpoint, folder)
        _require_convertible(model, quantization)
        float32 = float32_tflite(weights(model.backbone), model.architecture)
        (folder / MODEL_FILE).write_bytes(quantize_weights(float32, quantization, target))
        files = [MODEL_FILE, *TOKENIZER_FILES]
        if keras_weights:
            save_checkpoint(model.backbone, folder, dtype="float16")
            files += CHECKPOINT_FILES
        records = {file: FileRecord.of(folder / file) for file in files}
        manifest = Manifest(
            name=name or out.name,
            revision=records[MODEL_FILE].sha256[:12],
            architecture=model.architecture,
            vocabulary=model.tokenizer.fingerprint,
            files=records,
            memory=0,
            sampling=model.sampling | (sampling or {}),
        )
        manifest.write(folder)
        try:
            memory = try_model(folder)
            runtime = Runtime.load(folder / MODEL_FILE, model.architecture, default_threads())
            evaluation = evaluate(model, runtime, documents or [PASSAGE], most_tokens=MAX_TOKENS)
        except EdgeError as error:
            raise ConversionError(f"the converted model does not work: {error}") from error
        _require_agreement(evaluation, quantization)
        conversion = {"source": model.name, "quantize": quantization, "target": target}
        manifest = replace(manifest, memory=memory, conversion=conversion | evaluation.as_dict())
        manifest.write(folder)
    return manifest, evaluation


def _require_convertible(model: KerasModel, quantization: Quantization) -> None:
    if model.backbone.count_params() * 4 > MAX_FILE_SIZE:
        raise ConversionError(
            f"{model.name} is too large: in float32 it must fit into a file of 2 GB"
        )
    if quantization is Quantization.INT4 and model.architecture.width % BLOCK:
        raise ConversionError(
            f"int4 needs a width that {BLOCK} divides, but {model.name}'s is "
            f"{model.architecture.width}; give another --quantize"
        )


def _require_agreement(evaluation: Evaluation, quantization: Quantization) -> None:
    allowed = evaluation.logit_spread * ALLOWED_DIFFERENCE[quantization]
    if not evaluation.logit_difference <= allowed:  # NaN fails this, too
        raise ConversionError(
            f"the device model's logits differ from Keras's by {evaluation.logit_difference:.3g} "
            f"(root mean square), more than the {allowed:.3g} allowed: the conversion failed, or "
            f"{quantization} cannot hold these weights"
        )


@contextmanager
def _atomic_folder(out: Path) -> Iterator[Path]:
    """Yield a temporary folder next to `out`, and rename it to `out` when the block succeeds."""
    try:
        if out.exists():
            raise ConversionError(f"{out} exists already; give a new folder, or remove it first")
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as folder:
            partial = Path(folder) / out.name
            partial.mkdir()
            yield partial
            partial.rename(out)
    except OSError as error:
        raise ConversionError(f"{out} cannot be written: {error.strerror or error}") from error
