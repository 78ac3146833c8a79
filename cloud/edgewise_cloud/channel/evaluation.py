"""Making `evaluation.json`: what a revision predicts here, and how far a device may differ."""

import math
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np

from edgewise_cloud.console import SILENT, Progress
from edgewise_cloud.convert.evaluate import MIN_TOKENS, PASSAGE, keras_logits
from edgewise_cloud.corpus import tokenized
from edgewise_cloud.errors import PublishFailedError, TextError
from edgewise_cloud.keras_models.find import CHECKPOINT_FILES
from edgewise_cloud.keras_models.import_tensorflow import import_tensorflow
from edgewise_edge.agreement import Agreement, measure
from edgewise_edge.decoding.load import load_tokenizer
from edgewise_edge.decoding.tokenizer import Tokenizer
from edgewise_edge.installed.evaluation import TOKENS, Evaluation, Window
from edgewise_edge.model import default_threads
from edgewise_edge.runtime.session import Runtime
from edgewise_edge.store.manifest import MODEL_FILE, Architecture, Manifest

# Other CPUs and kernels round otherwise, which flips the top-1 where two tokens are nearly as likely.
# Measured on tales: TFLite's builtin and reference kernels flip 1.0 to 1.6 % of XNNPACK's, for 0.1 %
# more bits, and int8 flips 2.9 % of float32's. So a device may flip 3 % more than this machine, and
# three standard deviations of that share over so few tokens: 5.3 % over 512. Damaged weights flip
# most tokens, for several times the bits.
FLIPPED = 0.03
MORE_BITS = 0.02


def make_evaluation(
    folder: Path, documents: list[str] | None = None, progress: Progress = SILENT
) -> Evaluation:
    """Measure the device model in `folder` on the first 512 tokens of `documents`.

    By default, of a passage of our own. The expected top-1 are Keras's where the folder has the
    checkpoint, too, else the device model's own. Raises TextError, CheckpointError and EdgeError.
    """
    manifest = Manifest.read(folder)
    tokenizer = load_tokenizer(folder, manifest)
    texts = _texts(tokenizer, documents or [PASSAGE], manifest.architecture.context_window)
    runtime = load_runtime(folder / MODEL_FILE, manifest.architecture)
    reference = "keras" if all((folder / name).exists() for name in CHECKPOINT_FILES) else "device"
    if reference == "keras":
        top1 = _keras_top1(folder, texts, progress)
    else:
        progress.step("predicting tokens on the device model")
        top1 = (_device_top1(runtime, ids) for ids in texts)
    windows = tuple(map(Window, map(tuple, texts), map(tuple, top1)))
    progress.step("measuring the device model")
    evaluation = Evaluation(
        windows=windows,
        text_bytes=sum(len(tokenizer.token_bytes(token)) for ids in texts for token in ids[1:]),
        least_top1=0.0,
        most_bits_per_byte=1e6,
        made_with=f"edgewise-cloud {version('edgewise-cloud')}",
    )
    return with_tolerance(evaluation, measure(runtime, evaluation), reference)


def with_tolerance(evaluation: Evaluation, measured: Agreement, reference: str) -> Evaluation:
    """The limits for devices, from what was measured here.

    Raises PublishFailedError where the model predicted NaN.
    """
    if not math.isfinite(measured.bits_per_byte):
        raise PublishFailedError(
            "the model predicts NaN, or what the text holds with a probability of 0; convert it again"
        )
    spread = math.sqrt(FLIPPED * (1 - FLIPPED) / evaluation.tokens)
    return replace(
        evaluation,
        least_top1=max(0.0, round(measured.top1 - FLIPPED - 3 * spread, 4)),
        most_bits_per_byte=round(measured.bits_per_byte * (1 + MORE_BITS), 4),
        measured=asdict(measured) | {"reference": reference},
    )


def load_runtime(path: Path, shape: Architecture) -> Runtime:
    """The device model in the file at `path`. Raises EdgeError."""
    return Runtime.load(path, shape, default_threads())


def _texts(tokenizer: Tokenizer, documents: list[str], window: int) -> list[list[int]]:
    """Windows that overlap by one token: each of the 512 is predicted once."""
    start = sorted(tokenizer.end_ids)[:1]  # a text begins after the end of another one
    tokens = [*start, *tokenized(documents, tokenizer)[:TOKENS].tolist()][: TOKENS + 1]
    if len(tokens) < MIN_TOKENS:
        raise TextError(f"the text to evaluate on has fewer than {MIN_TOKENS} tokens; give more")
    step = window - 1
    return [tokens[begin : begin + window] for begin in range(0, len(tokens) - 1, step)]


def _device_top1(runtime: Runtime, ids: list[int]) -> list[int]:
    session = runtime.session()
    return [int(session.forward([token]).argmax()) for token in ids[:-1]]


def _keras_top1(folder: Path, texts: list[list[int]], progress: Progress) -> Iterator[list[int]]:
    import_tensorflow(progress)
    from edgewise_cloud.keras_models.load import load_keras

    progress.step(f"reading the Keras weights of {folder}")
    with tempfile.TemporaryDirectory() as workspace:
        model = load_keras(str(folder), Path(workspace))
    progress.step("predicting tokens in Keras")
    for ids in texts:
        rows = keras_logits(model, np.array(ids[:-1], np.int32), 0)
        yield rows.argmax(axis=-1).tolist()
