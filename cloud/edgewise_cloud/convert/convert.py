"""Converting a Keras GPT-2 to a device model folder."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgewise_cloud.console import SILENT, Progress
from edgewise_cloud.convert.evaluate import PASSAGE, Evaluation, evaluate
from edgewise_cloud.convert.quantization import BLOCK, Quantization, Target
from edgewise_cloud.convert.rewrite import WEIGHT_FORMATS, quantize_weights
from edgewise_cloud.errors import ConversionError, ConversionFailedError
from edgewise_cloud.files import require_writable
from edgewise_cloud.keras_models.find import CHECKPOINT_FILES, find_checkpoint
from edgewise_cloud.keras_models.import_tensorflow import import_tensorflow
from edgewise_edge.decoding.sampling_params import sampling_params
from edgewise_edge.decoding.tokenizer import TOKENIZER_FILES
from edgewise_edge.errors import EdgeError
from edgewise_edge.model import default_threads
from edgewise_edge.runtime.session import Runtime
from edgewise_edge.runtime.signatures import fuses
from edgewise_edge.store.manifest import MODEL_FILE, FileRecord, Manifest
from edgewise_edge.trial import try_model

if TYPE_CHECKING:  # it imports TensorFlow
    from edgewise_cloud.keras_models.load import KerasModel

MAX_FILE_SIZE = 2**31  # bytes; a flatbuffer's offsets have 32 bits
MAX_TOKENS = 4096  # of the text that a conversion is evaluated on
MAX_PASSAGE_TOKENS = 1024  # of our own passage
# How far a conversion may move the logits: the root mean square over their standard deviation.
# Float32 differs only by rounding; a model in fewer bits that differs by more is broken.
ALLOWED_DIFFERENCE = {
    Quantization.NONE: 1e-3,
    Quantization.FLOAT16: 0.02,
    Quantization.INT8: 0.3,
    Quantization.INT4: 0.8,
}


@dataclass(frozen=True, slots=True)
class Conversion:
    """What a conversion made: its manifest, how it compares, and the size of what it was made from."""

    manifest: Manifest
    evaluation: Evaluation
    parameters: int


def convert(
    checkpoint: str,
    out: Path,
    quantization: Quantization,
    target: Target = Target.LITERT,
    *,
    name: str | None = None,
    keras_weights: bool = False,
    rows: bool = False,
    sampling: dict[str, float] | None = None,
    documents: list[str] | None = None,
    progress: Progress = SILENT,
) -> Conversion:
    """Convert the Keras model `checkpoint` to a device model folder `out`, and evaluate it.

    `rows` adds the signature for many sequences at once, which `serve --engine litert` runs (graph.py).
    `keras_weights` adds the Keras weights (float16), so that the cloud can serve the folder too.
    `sampling` overrides the settings that the checkpoint recommends. The evaluation reads the first
    4,096 tokens of `documents`, or 1,024 of a passage of our own. `out` is written atomically. What
    can be checked is checked before TensorFlow is imported. Raises CheckpointError, TextError,
    ConversionError or, for invalid `sampling`, RequestError.
    """
    if quantization is not Quantization.NONE and (quantization, target) not in WEIGHT_FORMATS:
        raise ConversionError(
            f"{target} cannot run {quantization} models; give another --quantize or --target"
        )
    sampling_params({}, sampling or {})
    find_checkpoint(checkpoint)
    _require_new(out)
    import_tensorflow(progress)
    from edgewise_cloud.convert.graph import float32_tflite
    from edgewise_cloud.keras_models.checkpoint import save_checkpoint, weights
    from edgewise_cloud.keras_models.load import load_keras

    with _atomic_folder(out) as folder:
        progress.step(f"reading {checkpoint}")
        model = load_keras(checkpoint, folder)
        _require_convertible(model, quantization, rows=rows)
        progress.step(f"converting {model.name} for {target}")
        float32 = float32_tflite(
            weights(model.backbone),
            model.architecture,
            fused_attention=target is Target.LITERT,
            rows=rows,
        )
        if quantization is not Quantization.NONE:
            progress.step(f"quantizing to {quantization}")
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
        manifest, evaluation = _tried(model, manifest, folder, documents, progress)
        _require_agreement(evaluation, quantization)
        conversion = {"source": model.name, "quantize": quantization, "target": target}
        manifest = replace(manifest, conversion=conversion | evaluation.as_dict())
        manifest.write(folder)
    return Conversion(manifest, evaluation, model.parameters)


def _tried(
    model: "KerasModel",
    manifest: Manifest,
    folder: Path,
    documents: list[str] | None,
    progress: Progress,
) -> tuple[Manifest, Evaluation]:
    """The manifest with the memory that the model needs, and how the model compares with Keras."""
    try:
        progress.step("trying the model in a process of its own")
        manifest = replace(manifest, memory=try_model(folder))
        runtime = Runtime.load(folder / MODEL_FILE, model.architecture, default_threads())
        evaluation = evaluate(
            model,
            runtime,
            documents or [PASSAGE],
            most_tokens=MAX_TOKENS if documents else MAX_PASSAGE_TOKENS,
            progress=progress,
        )
    except EdgeError as error:
        raise ConversionFailedError(f"the converted model does not work: {error}") from error
    return manifest, evaluation


def _require_convertible(model: "KerasModel", quantization: Quantization, *, rows: bool) -> None:
    if model.parameters * 4 > MAX_FILE_SIZE:
        raise ConversionError(
            f"{model.name} is too large: in float32 it must fit into a file of 2 GB"
        )
    if rows and not fuses(model.architecture):
        raise ConversionError(
            f"a step for many sequences needs heads of a multiple of 16 numbers, and {model.name}'s "
            f"have {model.architecture.head_size}; serve it with --engine keras"
        )
    if quantization is not Quantization.INT4:
        return
    backbone = model.backbone
    for name, width in (("n_embd", backbone.hidden_dim), ("n_inner", backbone.intermediate_dim)):
        if width % BLOCK:
            raise ConversionError(
                f"int4 needs widths that {BLOCK} divides, but {model.name}'s {name} is {width}; "
                "give another --quantize"
            )


def _require_agreement(evaluation: Evaluation, quantization: Quantization) -> None:
    allowed = evaluation.logit_spread * ALLOWED_DIFFERENCE[quantization]
    if not evaluation.logit_difference <= allowed:  # NaN fails this, too
        raise ConversionFailedError(
            f"the device model's logits differ from Keras's by {evaluation.logit_difference:.3g} "
            f"(root mean square), more than the {allowed:.3g} allowed: the conversion failed, or "
            f"{quantization} cannot hold these weights"
        )


def _require_new(out: Path) -> None:
    if out.exists():
        raise ConversionError(f"{out} exists already; give a new folder, or remove it first")
    with _write_errors(out):
        require_writable(out)


@contextmanager
def _atomic_folder(out: Path) -> Iterator[Path]:
    """Yield a temporary folder next to `out`, and rename it to `out` when the block succeeds."""
    with _write_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as folder:
            partial = Path(folder) / out.name
            partial.mkdir()
            yield partial
            partial.rename(out)


@contextmanager
def _write_errors(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConversionError(f"{out} cannot be written: {error.strerror or error}") from error
