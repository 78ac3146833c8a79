"""Greedy generation by KerasHub's own generate(), compiled by XLA as it is by default.

It tells its tokens when all are written. The first request of a length compiles for that length.
"""
# ruff: noqa: E402 - the clock starts before the imports

import time

STARTED = time.perf_counter()

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from protocol import options, serve

CHOSEN = options()
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["TF_NUM_INTRAOP_THREADS"] = str(CHOSEN.threads)  # read when TensorFlow starts

import numpy as np
from keras_hub.models import GPT2CausalLM

from edgewise_cloud.keras_models.load import load_keras


class KerasHub:
    """A Hugging Face folder of GPT-2."""

    def __init__(self, model: Path) -> None:
        with tempfile.TemporaryDirectory() as workspace:
            keras = load_keras(str(model), Path(workspace))
        self.causal_lm = GPT2CausalLM(keras.backbone)
        self.causal_lm.compile(sampler="greedy")

    def generate(self, prompt: list[int], new_tokens: int, known: Callable[[int], None]) -> None:
        """Write `new_tokens` tokens; see protocol.Generate."""
        length = len(prompt) + new_tokens
        padded = np.zeros((1, length), np.int32)
        padded[0, : len(prompt)] = prompt
        inputs = {"token_ids": padded, "padding_mask": (np.arange(length) < len(prompt))[None]}
        written = self.causal_lm.generate(inputs, stop_token_ids=None)
        for token in np.asarray(written["token_ids"])[0, len(prompt) :]:
            known(int(token))


if __name__ == "__main__":
    serve(KerasHub(CHOSEN.model).generate, STARTED)
