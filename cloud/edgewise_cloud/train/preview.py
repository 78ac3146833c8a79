"""A quick look at a model in training: its held-out loss and a sample of what it generates."""

import math
from collections.abc import Callable, Sequence

import keras
import numpy as np

from edgewise_cloud.console import Progress
from edgewise_cloud.train.data import RandomRows
from edgewise_cloud.train.tokenized import TokenizedCorpus
from edgewise_edge.decoding.sampling import sample
from edgewise_edge.decoding.sampling_params import SamplingParams
from edgewise_edge.decoding.tokenizer import Tokenizer

SAMPLE_PROMPT = "Once upon a time"
SAMPLE_TOKENS = 60
HELD_OUT_ROWS = 32  # a sample; `edgewise-cloud evaluate` reads the whole held-out set
BATCH_ROWS = 8


def report_preview(
    model: keras.Model,
    tokenizer: Tokenizer,
    corpora: Sequence[TokenizedCorpus],
    *,
    row: int,
    batch_tokens: int,
    window: int,
    report: Callable[[str], None],
    progress: Progress,
) -> None:
    """Report the loss on held-out rows of up to `row` tokens, and a sample of up to `window`.

    A loss for each phase's text, in their order. A batch has up to `batch_tokens`, which fit in training.
    """
    for corpus, of in zip(corpora, ("", " of the second phase's text"), strict=False):
        progress.step("measuring on held-out text")
        loss = _held_out_loss(model, corpus, min(row, len(corpus.held_out) - 1), batch_tokens)
        report(f"held-out loss{of} {loss}")
    progress.step("writing a sample")
    report(f"sample: {_sample(model, tokenizer, window)}")


def _held_out_loss(model: keras.Model, corpus: TokenizedCorpus, row: int, batch_tokens: int) -> str:
    batch = max(1, min(BATCH_ROWS, batch_tokens // row))
    rows = RandomRows(corpus.held_out, row, batch, HELD_OUT_ROWS // batch, 0)
    loss = model.evaluate(rows, verbose=0)
    bits = loss / math.log(2) * len(corpus.held_out) / corpus.held_out_bytes
    return f"{loss:.3f}, {bits:.3f} bits per byte"


def _sample(model: keras.Model, tokenizer: Tokenizer, window: int) -> str:
    """A short text by the model, generated without a cache: slower, but simple."""
    ids = tokenizer.encode(SAMPLE_PROMPT)[: window // 2]
    end = min(len(ids) + SAMPLE_TOKENS, window)
    params = SamplingParams(temperature=0.7, top_k=40, seed=1)
    padded = np.zeros((1, end), np.int32)
    mask = np.ones_like(padded)
    for position in range(len(ids), end):
        padded[0, : len(ids)] = ids
        logits = model.predict_on_batch({"token_ids": padded, "padding_mask": mask})
        ids.append(sample(np.asarray(logits[0, position - 1], np.float32), params, (), position))
        if ids[-1] in tokenizer.end_ids:
            break
    return " ".join(tokenizer.decode(ids).split())
