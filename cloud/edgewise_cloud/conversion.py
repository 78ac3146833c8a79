"""From a Keras GPT-2 to a device model folder."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import tensorflow as tf

from edgewise_cloud.agreement import Agreement, measure_agreement
from edgewise_cloud.checkpoint import CHECKPOINT_FILES, save_checkpoint, weights
from edgewise_cloud.errors import ConversionError
from edgewise_cloud.flatbuffer import share_buffers
from edgewise_cloud.graph import StepGraph
from edgewise_cloud.quantization import Quantization
from edgewise_cloud.sources import KerasModel, load_keras
from edgewise_edge.errors import EdgeError
from edgewise_edge.manifest import MODEL_FILE, FileRecord, Manifest
from edgewise_edge.signatures import PREFILL_CHUNK
from edgewise_edge.tokenizer import TOKENIZER_FILES
from edgewise_edge.trial import try_model

CACHE_BUCKETS = (128, 512)  # and the context window; a short text should not pay for a long one


def convert(
    source: str,
    out: Path,
    quantization: Quantization,
    *,
    name: str | None = None,
    keras_weights: bool = False,
    sampling: dict[str, float] | None = None,
    text: str | None = None,
) -> tuple[Manifest, Agreement]:
    """Write a device model folder `out` from the Keras model `source`, and check it.

    `keras_weights` adds the Keras weights (float16), for a folder that serves both sides.
    `sampling` is recommended on top of what the source recommends. The agreement is measured over
    `text`, or a passage of our own. Raises SourceError, TextError or ConversionError; `out` is
    written whole or not at all.
    """
    with _written_whole(out) as folder:
        model = load_keras(source, folder)
        (folder / MODEL_FILE).write_bytes(_to_tflite(model, quantization))
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
            agreement = measure_agreement(model, folder, text)
        except EdgeError as error:
            raise ConversionError(f"the converted model does not work: {error}") from error
        agreement.require(exact=quantization is Quantization.NONE)
        made = {"source": model.name, "quantize": str(quantization), **agreement.as_dict()}
        manifest = replace(manifest, memory=memory, conversion=made)
        manifest.write(folder)
    return manifest, agreement


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


def _to_tflite(model: KerasModel, quantization: Quantization) -> bytes:
    window = model.architecture.context_window
    buckets = [*(size for size in CACHE_BUCKETS if size < window), window]
    int8 = quantization is Quantization.INT8
    graph = StepGraph(weights(model.backbone), model.architecture, int8_tables=int8)
    # A chunk must be longer than a decode step and fit the smallest cache.
    signatures = dict(graph.signatures(min(PREFILL_CHUNK, buckets[0] - 1), buckets))
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(graph, folder, signatures=signatures)
        converter = tf.lite.TFLiteConverter.from_saved_model(
            folder, signature_keys=list(signatures)
        )
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        if int8:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        return share_buffers(converter.convert())
