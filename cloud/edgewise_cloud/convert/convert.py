"""From a Keras GPT-2 to a device model folder."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import tensorflow as tf

from edgewise_cloud.convert.evaluate import PASSAGE, Evaluation, evaluate
from edgewise_cloud.convert.graph import StepGraph
from edgewise_cloud.convert.quantization import BLOCK, Quantization, Target
from edgewise_cloud.convert.weight_formats import FORMS, stored
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

LARGEST_FILE = 2**31  # bytes; a flatbuffer's offsets have 32 bits
MOST_TOKENS = 4096  # of the text that a conversion is judged on
# How far a conversion may move the logits, as root mean square over their standard deviation.
# Float32 on two runtimes differs by rounding alone; in fewer bits, what differs by more is broken.
ALLOWED = {
    Quantization.NONE: 1e-3,
    Quantization.FLOAT16: 0.02,
    Quantization.INT8: 0.3,
    Quantization.INT4: 0.8,
}


def convert(
    source: str,
    out: Path,
    quantization: Quantization,
    target: Target = Target.LITERT,
    *,
    name: str | None = None,
    keras_weights: bool = False,
    sampling: dict[str, float] | None = None,
    documents: list[str] | None = None,
) -> tuple[Manifest, Evaluation]:
    """Write a device model folder `out` from the Keras model `source`, and judge it.

    `keras_weights` adds the Keras weights (float16), for a folder that serves both sides.
    `sampling` is recommended on top of what the source recommends. What the model lost is measured
    on the first tokens of `documents`, or a passage of our own. Raises CheckpointError, TextError,
    ConversionError or, for settings that mean nothing, RequestError; `out` is written whole or not at
    all.
    """
    if quantization is not Quantization.NONE and (quantization, target) not in FORMS:
        raise ConversionError(
            f"{target} cannot run {quantization} models; give another --quantize or --target"
        )
    sampling_params({}, sampling or {})
    with _written_whole(out) as folder:
        model = load_keras(source, folder)
        _require_convertible(model, quantization)
        (folder / MODEL_FILE).write_bytes(_to_tflite(model, quantization, target))
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
            evaluation = evaluate(model, runtime, documents or [PASSAGE], most_tokens=MOST_TOKENS)
        except EdgeError as error:
            raise ConversionError(f"the converted model does not work: {error}") from error
        _require_agreement(evaluation, quantization)
        made = {"source": model.name, "quantize": quantization, "target": target}
        manifest = replace(manifest, memory=memory, conversion=made | evaluation.as_dict())
        manifest.write(folder)
    return manifest, evaluation


def _require_convertible(model: KerasModel, quantization: Quantization) -> None:
    if model.backbone.count_params() * 4 > LARGEST_FILE:
        raise ConversionError(
            f"{model.name} is too large: its float32 form must fit into a file of 2 GB"
        )
    if quantization is Quantization.INT4 and model.architecture.width % BLOCK:
        raise ConversionError(
            f"int4 needs a width that {BLOCK} divides, and {model.name} has one of "
            f"{model.architecture.width}; give another --quantize"
        )


def _require_agreement(evaluation: Evaluation, quantization: Quantization) -> None:
    allowed = evaluation.logit_spread * ALLOWED[quantization]
    if not evaluation.logit_difference <= allowed:  # a NaN is refused as well
        raise ConversionError(
            f"the device model's logits differ from Keras's by {evaluation.logit_difference:.3g} "
            f"(root mean square), where {allowed:.3g} is allowed: the conversion went wrong, or "
            f"{quantization} cannot hold these weights"
        )


@contextmanager
def _written_whole(out: Path) -> Iterator[Path]:
    """A folder beside `out` that takes its name only when the work is done."""
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


def _to_tflite(model: KerasModel, quantization: Quantization, target: Target) -> bytes:
    graph = StepGraph(weights(model.backbone), model.architecture)
    signatures = dict(graph.signatures())
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(graph, folder, signatures=signatures)
        converter = tf.lite.TFLiteConverter.from_saved_model(
            folder, signature_keys=list(signatures)
        )
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        return stored(converter.convert(), quantization, target)
